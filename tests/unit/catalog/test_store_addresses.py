"""Which addresses open which store, and which are refused."""

import subprocess
import sys

import pytest

from catalog.errors import SettingsError
from catalog.store import open_store
from catalog.store.s3 import S3Store


def test_addresses_open_the_store_they_name(tmp_path):
    assert open_store(str(tmp_path)).locate("a") == str(tmp_path / "a")
    assert open_store((tmp_path / "my music").as_uri()).locate("a") == str(tmp_path / "my music" / "a")
    store = open_store("s3://bucket/some/prefix/")
    assert isinstance(store, S3Store)
    assert store.locate("a") == "s3://bucket/some/prefix/a"


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "gs://bucket",
        "https://user:hunter2@host/x?sig=hunter2",
        "s3://",
        "s3:///prefix",
        "s3://b",
        "s3://bucket/a/../b",
        "s3://key:hunter2@bucket/x",
        "file://elsewhere/music",
        "ftp://x",
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_secrets(url):
    with pytest.raises(SettingsError) as caught:
        open_store(url)
    assert caught.value.fix
    assert "hunter2" not in str(caught.value)


def test_an_endpoint_needs_a_scheme():
    with pytest.raises(SettingsError, match="TUNEMILL_S3_ENDPOINT_URL"):
        open_store("s3://bucket", s3_endpoint_url="localhost:9000")


def test_a_folder_needs_no_boto3():
    code = "import sys; from catalog.store import open_store; open_store('/tmp/x'); assert 'boto3' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
