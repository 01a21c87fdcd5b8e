"""The picture of the README: the cost page of a made-up month, as a browser shows it.

`python -m tests.support.pictures` (`make pictures`) takes the picture again with Chromium. The month is made up, so the
picture has every part of the page and no figure of anybody's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from orchestrator.finance.report.page import render_page
from tests.support.cost_contents import a_big_month, a_full_month

REPO: Final = Path(__file__).resolve().parents[2]
PICTURE: Final = REPO / "docs" / "images" / "cost-page.png"
_SIZE: Final = (1240, 940)  # pixels: the head of the page, before the tables
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
# A browser that looks for nothing outside.
_QUIET: Final = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb"
).split()


def write_picture(browser: str, to: Path) -> None:
    """Take a picture of the page's first screen."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        month = a_full_month(a_big_month(zones=8, genres=4, runs=2, scale=4), time_zone="UTC")
        page.write_text(render_page(month), encoding="utf-8")
        subprocess.run(
            [browser, *_QUIET, f"--user-data-dir={folder}/profile", "--window-size={},{}".format(*_SIZE),
             f"--screenshot={to}", page.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


if __name__ == "__main__":
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"a picture of a page needs a browser: install one of {', '.join(_BROWSERS)}")
    PICTURE.parent.mkdir(exist_ok=True)
    write_picture(found, PICTURE)
