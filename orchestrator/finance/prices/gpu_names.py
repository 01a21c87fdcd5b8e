"""GPU names: identify the card that the name in a driver, a price row or a price catalog refers to.

Drivers say "NVIDIA A100-SXM4-80GB", price rows "a100-80gb", catalogs "A100-80GB-SXM", or "A100" with the memory in
another column. Each name is split into model, memory, form and slice. Two names refer to the same card when no part
differs. A laptop's RTX 4090, the RTX 4090 D and a slice of an A100 are cards of their own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

# Without its form a name means the card that catalogs and drivers call so. Only these models come in several.
_FORMS_OF: Final = {
    "a100": ("sxm", "pcie"),
    "a800": ("sxm", "pcie"),
    "v100": ("sxm", "pcie"),
    "h100": ("sxm", "pcie", "nvl"),
    "h800": ("sxm", "pcie"),
    "h200": ("sxm", "nvl"),
    "rtx pro 6000": ("server", "workstation", "max-q"),
}
_USUAL_FORM: Final = {"h100": "sxm", "h800": "sxm", "h200": "sxm"}
_NVL_GIB: Final = 90  # an H100 with more is the NVL
# Memory in GiB of models that come in several sizes although their driver prints none: the usual size.
_USUAL_GIB: Final = {
    ("h100", "pcie"): 80.0,
    ("h100", "nvl"): 94.0,
    ("rtx 4090", ""): 24.0,
    ("rtx 3080", ""): 10.0,
    ("rtx 3060", ""): 12.0,
    ("rtx 3050", ""): 8.0,
    ("rtx 2060", ""): 6.0,
}
_TOLERANCE: Final = 0.1  # 24 GB cards report 22.5 GiB, and 80 GB cards 79.6
_SOLD_GIB: Final = (4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 180, 192, 256, 288)

_MAKERS: Final = re.compile(
    r"(?<![a-z])(nvidia|geforce|tesla|quadro|grid|amd|instinct|hgx|dgx|generation|edition|gpu|tensor core|ac)(?![a-z])"
)
_JOINED_MAKERS: Final = re.compile(r"(?<![a-z])(nvidia|geforce|tesla|quadro|q(?= ?rtx))(?= ?rtx|gtx|[avptkm]\d)")
_MEMORY: Final = re.compile(r"(?<![a-z0-9.])(\d{1,3}) ?(?:gib|gb|g)(?![a-z0-9])")
_FORM: Final = re.compile(r"(?<![a-z])(sxm\d?|pcie|nvl|mega)(?![a-z])")
_SLICE: Final = re.compile(r"(?<![a-z])mig(?![a-z])\W*(.*)$")
_SHARED: Final = re.compile(r"-(\d{1,3}(?:-\d)?[qcab])$")  # NVIDIA A10-24Q: a virtual GPU
_RTX: Final = re.compile(r"^(rtx|gtx) (pro )?(a?\d{3,4}) ?(.*)$")
_SUFFIXES: Final = re.compile(r"super|ada|ti|max ?q|mobile|laptop|[a-z]+?(?=ti$)|[a-z]+|\d+")
_KNOWN: Final = re.compile(r"^((rtx|gtx|titan)\b.*|(gh|gb|[abhlvtpkm])\d{1,4}[a-z]?|mi\d{2,3}[a-z]?|cpu)$")


class Card(NamedTuple):
    """One kind of GPU. A detail that its name leaves open is None or ""."""

    model: str  # "a100", "rtx 4070 ti super"
    vram_gib: float | None = None
    form: str = ""  # sxm, pcie or nvl; server, workstation or max-q
    slice: str = ""  # the part of a card that a MIG or virtual GPU is

    @property
    def is_known(self) -> bool:
        """True when a driver may use the name; a TPU or another kind of accelerator is no GPU."""
        return _KNOWN.match(self.model) is not None

    @property
    def sku(self) -> str:
        """A name for the price book: a100-pcie-80gb, rtx-4090-24gb."""
        form = "" if self.form == _USUAL_FORM.get(self.model) else self.form
        memory = f"{self.vram_gib:.0f}gb" if self.vram_gib else ""
        words = "-".join(part for part in (self.model, form, memory, self.slice) if part)
        return re.sub(r"[^a-z0-9._]+", "-", words).strip("-._")

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that the model comes in; none where there is one only."""
        return _FORMS_OF.get(self.model, ())

    def may_be(self, other: Card) -> bool:
        """True when the two may be one card, because no detail that both have differs."""
        return (
            self.model == other.model
            and self.slice == other.slice
            and (not self.form or not other.form or self.form == other.form)
            and is_same_memory(self.vram_gib, other.vram_gib)
        )


def is_same_memory(gib: float | None, other_gib: float | None) -> bool:
    """True when two sizes may belong to one card, since some sources round; an unknown size fits any."""
    if not gib or not other_gib:
        return True
    return abs(gib - other_gib) <= _TOLERANCE * max(gib, other_gib)


def sold_as(gib: float) -> float:
    """The size that a card of so much reported memory is sold as: 24 for 22.5."""
    nearest = min(_SOLD_GIB, key=lambda size: abs(size - gib))
    return float(nearest) if is_same_memory(nearest, gib) else float(round(gib))


@lru_cache(maxsize=4096)  # workers report names of GPUs, and a worker is not trusted
def card_of(name: str, vram_gib: float | None = None) -> Card:
    """The card of `name`; `vram_gib` is the memory according to another source, and the name's own memory wins."""
    text = name.strip().lower()
    piece = ""
    if sliced := _SLICE.search(text):
        piece, text = f"mig {sliced[1]}".strip(), text[: sliced.start()]
    elif shared := _SHARED.search(text):
        piece, text = shared[1], text[: shared.start()]
    text = re.sub(r"[\s_/(),-]+", " ", text)
    text = " ".join(_MAKERS.sub(" ", _JOINED_MAKERS.sub("", text)).split())
    if memory := _MEMORY.search(text):
        text = f"{text[: memory.start()]} {text[memory.end() :]}"
        vram_gib = float(memory[1])
    stacks = re.search(r"(?<![a-z])hbm\d[a-z]?(?![a-z0-9])", text)
    found = _FORM.search(text)
    text = " ".join(re.sub(r"(?<![a-z])hbm\d[a-z]?(?![a-z0-9])", " ", _FORM.sub(" ", text)).split())
    form = re.sub(r"sxm\d|mega", "sxm", found[1]) if found else ""
    model, suffix_form = _model_of(text)
    if model.startswith(("gh", "gb")):
        vram_gib = None  # the number in its name is the memory of its processor
    form = _form_of(model, form or suffix_form, vram_gib, has_stacks=stacks is not None)
    return Card(model, vram_gib or _USUAL_GIB.get((model, form)), form, piece)


def names_gpu(part: str, gpu: str) -> bool:
    """True when `part` stands in the GPU name `gpu` as a name of its own: L4 is not in L40S, A10 not in A100."""
    part, gpu = plain_name(part), plain_name(gpu)
    after = r"(?![a-z0-9])" if part[-1:].isdigit() else ""
    return bool(part) and re.search(rf"(?<![a-z0-9]){re.escape(part)}{after}", gpu) is not None


def plain_name(name: str) -> str:
    """`name` without regard to capitals and to how its words are joined."""
    return re.sub(r"[\s_-]+", " ", name.strip().lower())


def _form_of(model: str, form: str, vram_gib: float | None, *, has_stacks: bool) -> str:
    if model not in _FORMS_OF:
        return ""
    if form:
        return form
    if model == "h100" and vram_gib and vram_gib > _NVL_GIB:
        return "nvl"
    return "sxm" if has_stacks else _USUAL_FORM.get(model, "")


def _model_of(text: str) -> tuple[str, str]:
    """The model, its words in one order, and the form that its suffix tells of."""
    text = text.replace("rtxpro", "rtx pro ").replace("blackwell", " ")
    text = re.sub(r"(?<![a-z])(rtx|gtx|pro|titan|mi) ?(?=a?\d)", r"\1 ", " ".join(text.split()))
    text = re.sub(r"^mi (?=\d)", "mi", text)
    text = re.sub(r"^(?=a(?:[25]\d00|4[05]00|6000)(?![0-9]))", "rtx ", text)  # A6000 alone is the RTX A6000
    text = re.sub(r"^(?=[2-9]0[5-9]0(?![0-9]))", "rtx ", text)  # as people write it: 4090
    parts = _RTX.match(" ".join(text.split()))
    if parts is None:
        return " ".join(text.split()), ""
    family, pro, number, tail = parts[1], parts[2] or "", parts[3], parts[4]
    suffixes = {word.replace(" ", "") for word in _SUFFIXES.findall(tail)}
    form = ""
    if pro:
        for words, meant in (({"maxq"}, "max-q"), ({"s", "server"}, "server"), ({"ws", "workstation"}, "workstation")):
            form = form or (meant if words & suffixes else "")
        suffixes -= {"maxq", "s", "server", "ws", "workstation"}
    elif "s" in suffixes:
        suffixes = suffixes - {"s"} | {"super"}
    return " ".join([f"{family} {pro}{number}", *sorted(suffixes, reverse=True)]), form
