"""The price book: dated, exact, matched by name, and never zero for what it does not know."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from catalog.errors import PriceError, SettingsError, UnreadableFileError
from orchestrator.finance.money import micros_of, parse_usd
from orchestrator.finance.prices.book import (
    PriceLayer,
    PriceLayerName,
    PriceRow,
    choose_price,
    get_price,
    price_for,
    price_for_gpu,
    read_price_book,
    read_price_layers,
)
from orchestrator.finance.prices.gpu_names import card_of, names_gpu
from orchestrator.ledger.observations import Machine

SHIPPED = Path(__file__).resolve().parents[3] / "infra" / "prices"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def a_book(folder: Path, **files: str):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(dedent(text), encoding="utf-8")
    return read_price_book(folder)


SPRING = """\
    valid_from: 2027-01-01
    currency: USD
    prices:
      - {sku: a100-80gb, match: [A100-SXM4-80GB], market: on_demand, usd_per_hour: "1.64", vram_gib: 80, source: list}
      - {sku: a100-80gb, match: [A100-SXM4-80GB], market: spot, usd_per_hour: 0.9, source: list}
      - {sku: l4, match: [NVIDIA L4], usd_per_hour: "0.7992", source: list}
      - {sku: a10, match: [A10], usd_per_hour: "1.29", source: list}
"""
SUMMER = """\
    valid_from: 2027-06-01
    prices:
      - {sku: a100-80gb, match: [A100-SXM4-80GB], usd_per_hour: "1.50", source: contract}
"""


def test_the_price_in_force_is_the_newest_valid_by_then(tmp_path):
    book = a_book(tmp_path, spring=SPRING, summer=SUMMER)
    assert price_for_gpu("a100-80gb", ms("2026-12-31"), book) is None
    assert get_price("a100-80gb", ms("2027-01-01"), book).usd_micros_per_h == 1_640_000
    assert get_price("a100-80gb", ms("2027-05-31T23:59:59"), book).usd_micros_per_h == 1_640_000
    newest = get_price("a100-80gb", ms("2027-06-01"), book)
    assert (newest.usd_micros_per_h, newest.valid_from, newest.provenance) == (
        1_500_000,
        date(2027, 6, 1),
        "price book 2027-06-01",
    )
    assert get_price("l4", ms("2028-01-01"), book).usd_micros_per_h == 799_200  # a later file need not repeat it


def test_amounts_are_exact_with_and_without_quotes(tmp_path):
    book = a_book(tmp_path, spring=SPRING)
    spot = next(price for price in book.prices if price.market == "spot")
    assert spot.usd_micros_per_h == 900_000
    assert micros_of("0.000001") == 1
    with pytest.raises(ValueError, match="finer than a micro"):
        micros_of("0.0000001")


@pytest.mark.parametrize(
    ("gpu", "sku"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("A100-80GB", "a100-80gb"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", None),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-PCIE-40GB", None),
        ("", None),
    ],
)
def test_a_driver_name_finds_its_row_and_no_other(tmp_path, gpu, sku):
    price = price_for_gpu(gpu, ms("2027-02-01"), a_book(tmp_path, spring=SPRING))
    assert (price.sku if price else None) == sku
    assert price is None or price.market == "on_demand"


def test_a_missing_price_is_an_error_that_lists_the_known_gpus(tmp_path):
    with pytest.raises(PriceError) as caught:
        get_price("NVIDIA B300", ms("2027-02-01"), a_book(tmp_path, spring=SPRING))
    assert "a10, a100-80gb, l4" in caught.value.why
    assert "costs prices add b300 USD" in caught.value.fix
    assert caught.value.exit_code == 20


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"0.7992"', '"cheap"', ":6: usd_per_hour: 'cheap' is not an amount"),
        ('"0.7992"', '"-1"', ":6: usd_per_hour: -1 is not a possible amount"),
        ('"0.7992"', '".nan"', ":6: usd_per_hour: '.nan' is not an amount"),
        ("sku: l4, match", "sku: l4, mach", ":6: 'mach' is not a key of a price file there"),
        ("currency: USD", "currency: EUR", ":2: currency is wrong: 'EUR'"),
        ("2027-01-01", "someday", ":1: valid_from is wrong: 'someday'"),
        ("sku: l4,", "", ":6: 'sku' is missing"),
        ("[NVIDIA L4]", "NVIDIA L4", ":6: match is wrong: 'NVIDIA L4'"),
        ("sku: a10,", "sku: l4,", ":7: 'l4' (on_demand) has a second price"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, old, new, said):
    with pytest.raises(PriceError) as caught:
        a_book(tmp_path, spring=SPRING.replace(old, new))
    assert str(tmp_path / "spring.yaml") + said in caught.value.what


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"{unclosed: [", b""])
def test_a_file_that_is_no_yaml_is_an_error_in_words(tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises((UnreadableFileError, PriceError), match=r"bad\.yaml"):
        read_price_book(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "fix"),
    [
        ("sku: l4, match", "sku: l4, mach", "write 'match'"),
        (
            '"0.7992"',
            '"cheap"',
            'write `usd_per_hour:` with dollars as a decimal number with a point, in quotes: "1.64"',
        ),
        ("market: on_demand", "market: barter", "write `market:` with on_demand or spot"),
        ("vram_gib: 80", "vram_gib: lots", "write `vram_gib:` with the GPU's memory in GiB as a number: 80"),
        ("sku: l4,", "sku: L 4,", "write `sku:` with a name in small letters"),
        ("source: list}", "source: ''}", "write `source:` with who says so"),
        ("prices:", "prises:", "add `prices:` with a list of prices"),
    ],
)
def test_the_remedy_for_a_wrong_row_says_what_to_write_in_plain_words(tmp_path, old, new, fix):
    with pytest.raises(PriceError) as caught:
        a_book(tmp_path, spring=SPRING.replace(old, new, 1))
    assert caught.value.fix.startswith(fix)
    said = str(caught.value)
    assert not any(word in said for word in ("Input should", "Extra inputs", "Field required", "should have", "valid "))


def test_a_folder_without_price_files_is_an_error(tmp_path):
    with pytest.raises(PriceError, match="no price file"):
        read_price_book(tmp_path / "nowhere")


def test_a_cap_in_dollars_is_read_exactly_or_refused():
    assert parse_usd("12.50") == parse_usd(" $12.5") == 12_500_000
    for wrong in ("ten", "-1", "inf", "1.0000001", ""):
        with pytest.raises(SettingsError, match="--max-usd is wrong"):
            parse_usd(wrong)


def test_a_name_counts_only_as_a_whole():
    assert names_gpu("L4", "NVIDIA L4")
    assert not names_gpu("L4", "NVIDIA L40S")
    assert not names_gpu("H200", "NVIDIA GH200 480GB")
    assert names_gpu("a100-80", "NVIDIA A100 80GB PCIe") is False  # ends inside "80GB"
    assert not names_gpu("", "NVIDIA L4")


def test_the_shipped_price_book_is_valid_and_knows_the_common_names():
    book = read_price_book(SHIPPED)
    now = max(price.valid_from_ms for price in book.prices)
    for gpu in ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA L4", "NVIDIA GeForce RTX 4090", "cpu"):
        assert get_price(gpu, now, book).usd_micros_per_h > 0
    assert get_price("NVIDIA L4", now, book).sku != get_price("NVIDIA L40S", now, book).sku


UNITS = """\
    valid_from: 2027-01-01
    prices:
      - {sku: song-a, unit: song, usd: "0.045", songs_per_request: 2, provider: mureka, source: page}
      - {sku: song-b, unit: song, usd: "0.067", songs_per_request: 1, source: page}
      - {sku: disk, unit: gb_month, usd: "0.20", source: page}
      - {sku: disk, unit: gb_month, usd: "0.10", provider: runpod, source: page}
      - {sku: disk, unit: gb_month, usd: "0.05", provider: runpod, region: EU, source: page}
      - {sku: l4, unit: hour, usd: "0.80", provider: runpod, region: EU, source: page}
"""


def test_prices_of_other_units_stand_beside_those_of_gpus(tmp_path):
    book = a_book(tmp_path, spring=SPRING.replace("sku: l4,", "sku: l4-old,"), units=UNITS)
    at = ms("2027-02-01")
    assert [(song.sku, song.usd_micros, song.songs_per_request) for song in book.song_prices(at)] == [
        ("song-a", 45_000, 2),
        ("song-b", 67_000, 1),
    ]
    assert book.song_prices(ms("2026-12-31")) == []
    assert {price.sku for price in book.in_force(at)} == {"a100-80gb", "l4-old", "l4", "a10"}
    assert get_price("l4", at, book).usd_micros_per_h == 800_000


PLACES = """\
    valid_from: 2027-01-01
    prices:
      - {sku: l4, match: [L4], usd_per_hour: "0.80", source: page}
      - {sku: l4, match: [L4], market: spot, usd_per_hour: "0.30", source: page}
      - {sku: l4, match: [L4], usd_per_hour: "0.70", provider: runpod, source: page}
      - {sku: l4, match: [L4], usd_per_hour: "0.60", provider: runpod, region: EU, source: page}
      - {sku: l4, match: [L4], usd_per_hour: "0.90", provider: vast, source: page}
      - {sku: l40s, match: [L40S], market: spot, usd_per_hour: "0.50", source: page}
"""


@pytest.mark.parametrize(
    ("machine", "usd"),
    [
        (Machine("NVIDIA L4"), "0.90"),  # rather too dear
        (Machine("NVIDIA L4", "runpod"), "0.70"),
        (Machine("NVIDIA L4", "runpod", region="EU"), "0.60"),
        (Machine("NVIDIA L4", "runpod", region="US"), "0.70"),
        (Machine("NVIDIA L4", "vast", "on_demand", "EU"), "0.90"),
        (Machine("NVIDIA L4", "lambda"), "0.80"),
        (Machine("NVIDIA L4", "lambda", "spot"), "0.30"),
        (Machine("NVIDIA L4", "runpod", "spot"), "0.30"),  # its market before its provider
        (Machine("NVIDIA L40S", "runpod", "on_demand"), "0.50"),  # the only one there is
    ],
)
def test_a_machine_is_priced_by_its_market_its_provider_and_its_region(tmp_path, machine, usd):
    price = price_for(machine, ms("2027-02-01"), a_book(tmp_path, places=PLACES))
    assert price.usd_micros_per_h == micros_of(usd)


def test_a_newer_price_of_one_provider_leaves_those_of_the_others(tmp_path):
    newer = """\
    valid_from: 2027-03-01
    prices:
      - {sku: l4, match: [L4], usd_per_hour: "9.90", provider: vast, source: page}
"""
    book, at = a_book(tmp_path, places=PLACES, newer=newer), ms("2027-04-01")
    assert price_for(Machine("NVIDIA L4", "vast"), at, book).usd_micros_per_h == micros_of("9.90")
    assert price_for(Machine("NVIDIA L4", "runpod"), at, book).usd_micros_per_h == micros_of("0.70")
    assert price_for(Machine("NVIDIA L4"), at, book).usd_micros_per_h == micros_of("9.90")
    assert price_for(Machine("NVIDIA L4", "vast"), ms("2027-02-01"), book).usd_micros_per_h == micros_of("0.90")


def test_of_two_prices_from_one_day_the_file_that_comes_later_by_name_counts(tmp_path):
    later = UNITS.replace('"0.045"', '"0.040"').replace('"0.80"', '"0.85"')
    book, at = a_book(tmp_path, **{"2027-01-01": UNITS, "2027-01-01-02": later}), ms("2027-02-01")
    assert book.song_prices(at)[0].usd_micros == 40_000
    assert get_price("l4", at, book).usd_micros_per_h == 850_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("songs_per_request: 2, ", "", ":3: songs_per_request is missing"),
        ("songs_per_request: 2", "songs_per_request: 0", ":3: songs_per_request is wrong: '0'"),
        ('usd: "0.20"', 'usd_per_hour: "0.20"', ":5: usd_per_hour, match and vram_gib are of GPUs"),
        ('usd: "0.20", ', "", ":5: a row has either usd_per_hour, or unit and usd"),
        ('usd: "0.20"', 'usd: "0.20", usd_per_hour: "1"', ":5: a row has either"),
        ('unit: gb_month, usd: "0.20"', 'unit: acre, usd: "0.20"', ":5: unit is wrong: 'acre'"),
        ('usd: "0.067"', 'usd: "0"', ":4: the price of a song cannot be zero"),
        (
            "provider: runpod, region: EU, source: page}\n      - {sku: l4",
            "provider: runpod, source: page}\n      - {sku: l4",
            ":7: 'disk' (gb_month) has a second price",
        ),
    ],
)
def test_a_wrong_row_of_another_unit_is_named_by_file_and_line(tmp_path, old, new, said):
    assert old in UNITS
    with pytest.raises(PriceError) as caught:
        a_book(tmp_path, units=UNITS.replace(old, new))
    assert str(tmp_path / "units.yaml") + said in caught.value.what


def test_the_shipped_price_book_knows_a_dated_price_of_a_song():
    book = read_price_book(SHIPPED)
    songs = book.song_prices(ms("2026-11-28"))
    assert songs
    assert all(song.usd_micros > 0 and song.songs_per_request >= 1 for song in songs)
    assert any("2026-09-05" in song.source for song in songs)
    assert any(price.sku == "network-volume" for price in book.units_in_force(ms("2026-11-28")))


# Cards


CARDS = {
    "NVIDIA A100-SXM4-80GB": ("a100", 80, "sxm", ""),
    "NVIDIA A100 80GB PCIe": ("a100", 80, "pcie", ""),
    "NVIDIA A100-PCIE-40GB": ("a100", 40, "pcie", ""),
    "NVIDIA A100 80GB PCIe MIG 3g.40gb": ("a100", 80, "pcie", "mig 3g.40gb"),
    "NVIDIA A800-SXM4-80GB": ("a800", 80, "sxm", ""),
    "NVIDIA H100 80GB HBM3": ("h100", 80, "sxm", ""),
    "NVIDIA H100 PCIe": ("h100", 80, "pcie", ""),
    "NVIDIA H100 NVL": ("h100", 94, "nvl", ""),
    "NVIDIA H200": ("h200", None, "sxm", ""),
    "NVIDIA GH200 480GB": ("gh200", None, "", ""),
    "NVIDIA H20": ("h20", None, "", ""),
    "Tesla T4": ("t4", None, "", ""),
    "Tesla V100-SXM2-16GB": ("v100", 16, "sxm", ""),
    "Tesla V100-PCIE-32GB": ("v100", 32, "pcie", ""),
    "NVIDIA L4": ("l4", None, "", ""),
    "NVIDIA L40": ("l40", None, "", ""),
    "NVIDIA L40S": ("l40s", None, "", ""),
    "NVIDIA A10": ("a10", None, "", ""),
    "NVIDIA A10G": ("a10g", None, "", ""),
    "NVIDIA A10-24Q": ("a10", None, "", "24q"),
    "NVIDIA RTX A6000": ("rtx a6000", None, "", ""),
    "Quadro RTX 6000": ("rtx 6000", None, "", ""),
    "NVIDIA RTX 6000 Ada Generation": ("rtx 6000 ada", None, "", ""),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": ("rtx pro 6000", None, "server", ""),
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": ("rtx pro 6000", None, "max-q", ""),
    "NVIDIA GeForce RTX 4090": ("rtx 4090", 24, "", ""),
    "NVIDIA GeForce RTX 4090 Laptop GPU": ("rtx 4090 laptop", None, "", ""),
    "NVIDIA GeForce RTX 4090 D": ("rtx 4090 d", None, "", ""),
    "NVIDIA GeForce RTX 3060": ("rtx 3060", 12, "", ""),
    "NVIDIA GeForce RTX 3060 Ti": ("rtx 3060 ti", None, "", ""),
    "NVIDIA GeForce RTX 4070 Ti SUPER": ("rtx 4070 ti super", None, "", ""),
}


def test_a_drivers_name_tells_model_memory_form_and_slice():
    assert {name: tuple(card_of(name)) for name in CARDS} == CARDS


def test_no_two_drivers_names_are_of_one_card():
    assert [
        (one, other) for one in CARDS for other in CARDS if one < other and card_of(one).may_be(card_of(other))
    ] == []


@pytest.mark.parametrize(
    ("written", "driver"),
    [
        ("A100-80GB-SXM", "NVIDIA A100-SXM4-80GB"),
        ("a100-pcie-40gb", "NVIDIA A100-PCIE-40GB"),
        ("H100", "NVIDIA H100 80GB HBM3"),
        ("H100NVL", "NVIDIA H100 NVL"),
        ("H200-SXM", "NVIDIA H200"),
        ("V100-32GB", "Tesla V100-PCIE-32GB"),
        ("RTX_4070S_Ti", "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("RTX3060Ti", "NVIDIA GeForce RTX 3060 Ti"),
        ("RTX6000-Ada", "NVIDIA RTX 6000 Ada Generation"),
        ("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation"),
        ("RTX6000", "Quadro RTX 6000"),
        ("QRTX6000", "Quadro RTX 6000"),
        ("A6000", "NVIDIA RTX A6000"),
        ("RTXPRO6000S", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
        ("TeslaV100", "Tesla V100-SXM2-16GB"),
        ("4090", "NVIDIA GeForce RTX 4090"),
        ("rtx-4090-24gb", "NVIDIA GeForce RTX 4090"),
    ],
)
def test_names_of_catalogs_and_people_mean_one_drivers_card(written, driver):
    assert card_of(written).may_be(card_of(driver))
    assert {name for name in CARDS if card_of(name).may_be(card_of(written))} <= {
        name for name in CARDS if card_of(name).model == card_of(driver).model
    }


@pytest.mark.parametrize("other", ["RTX 4090 Laptop GPU", "RTX 4090 D", "RTX 4090 MIG 1g.6gb"])
def test_a_card_does_not_take_the_price_of_another_whose_name_it_holds(tmp_path, other):
    row = """    valid_from: 2027-01-01
    prices: [{sku: rtx-4090-24gb, match: [RTX 4090], usd_per_hour: "0.40", source: page}]
"""
    book = a_book(tmp_path, row=row)
    assert price_for_gpu("NVIDIA GeForce RTX 4090", ms("2027-02-01"), book).sku == "rtx-4090-24gb"
    assert price_for_gpu(f"NVIDIA GeForce {other}", ms("2027-02-01"), book) is None


def test_a_row_without_names_is_of_the_card_that_its_sku_says(tmp_path):
    row = """    valid_from: 2027-01-01
    prices: [{sku: l40-48gb, usd_per_hour: "0.99", source: page}]
"""
    book = a_book(tmp_path, row=row)
    assert price_for_gpu("NVIDIA L40", ms("2027-02-01"), book).sku == "l40-48gb"
    assert price_for_gpu("NVIDIA L40S", ms("2027-02-01"), book) is None


def test_a_name_of_several_sizes_means_the_largest_and_says_the_others():
    book, now = read_price_book(SHIPPED), ms("2026-12-01")
    chosen = choose_price("A100", now, book)
    assert (chosen.price.sku, chosen.others) == ("a100-80gb", ("a100-40gb",))
    for name, sku in {"h100": "h100-80gb", "rtx4090": "rtx-4090-24gb", "4090": "rtx-4090-24gb"}.items():
        assert choose_price(name, now, book).price.sku == sku
        assert choose_price(name, now, book).others == ()
    with pytest.raises(PriceError) as caught:
        choose_price("h1oo", now, book)
    assert "did you mean h100-80gb?" in caught.value.fix


def test_the_shipped_rows_of_vast_hold_for_its_machines_and_leave_the_others_alone():
    book, now = read_price_book(SHIPPED), ms("2026-12-01")
    assert price_for(Machine("NVIDIA A100-SXM4-80GB", "vast"), now, book).usd_micros_per_h == 1_205_000
    assert price_for(Machine("NVIDIA A100-SXM4-80GB", "runpod"), now, book).usd_micros_per_h == 1_790_000
    assert price_for(Machine("NVIDIA A100-SXM4-80GB"), now, book).usd_micros_per_h == 1_790_000
    assert price_for(Machine("NVIDIA GeForce RTX 3090", "vast"), now, book).provider == "vast"


# Layers


def layered(folder: Path, **texts: str):
    layers = []
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / "p.yaml").write_text(dedent(text), encoding="utf-8")
        layers.append(PriceLayer(PriceLayerName(name), folder / name))
    return read_price_layers(layers)


def row(usd: str, day: str, more: str = "") -> str:
    return f"""    valid_from: {day}
    prices: [{{sku: l4, match: [NVIDIA L4], usd_per_hour: "{usd}", source: page{more}}}]
"""


def test_a_contract_outlives_the_next_list_that_comes_with_the_program(tmp_path):
    book = layered(tmp_path, installed=row("0.90", "2027-06-01"), home=row("0.50", "2027-01-01"))
    at = ms("2027-07-01")
    assert price_for(Machine("NVIDIA L4"), at, book).usd_micros_per_h == 500_000
    assert [(price.usd_micros_per_h, price.layer) for price in book.overlaid(at)] == [
        (900_000, PriceLayerName.INSTALLED)
    ]


def test_a_price_that_does_not_hold_yet_lets_the_lower_layer_through(tmp_path):
    book = layered(tmp_path, installed=row("0.90", "2027-01-01"), yours=row("0.50", "2027-06-01"))
    assert price_for(Machine("NVIDIA L4"), ms("2027-05-31"), book).usd_micros_per_h == 900_000
    assert price_for(Machine("NVIDIA L4"), ms("2027-06-01"), book).usd_micros_per_h == 500_000


def test_an_installed_row_of_a_provider_does_not_go_before_ones_own_price_of_all(tmp_path):
    installed = row("0.90", "2027-01-01", ", provider: vast")
    book = layered(tmp_path, installed=installed, home=row("0.50", "2027-01-01"))
    assert price_for(Machine("NVIDIA L4", "vast"), ms("2027-02-01"), book).usd_micros_per_h == 500_000


def test_an_imported_price_of_the_machines_own_provider_goes_before_ones_own_price_of_all(tmp_path):
    imported = row("0.30", "2027-01-01", ", provider: vast, region: DE")
    book = layered(tmp_path, home=imported, yours=row("0.50", "2027-01-01"))
    at = ms("2027-02-01")
    assert price_for(Machine("NVIDIA L4", "vast", region="US"), at, book).usd_micros_per_h == 300_000
    assert price_for(Machine("NVIDIA L4", "runpod"), at, book).usd_micros_per_h == 500_000


def test_another_providers_own_row_does_not_go_before_the_list(tmp_path):
    own = row("0.30", "2027-01-01", ", provider: runpod")
    book = layered(tmp_path, installed=row("0.90", "2027-01-01"), home=own)
    assert price_for(Machine("NVIDIA L4", "vast"), ms("2027-02-01"), book).usd_micros_per_h == 900_000


# Words

WRONG = ["", "x y", "-1", "nan", "1e999", [], ["a", ["b"]], {"a": "b"}, [{}], "on", "2026-13-45", "\x00", "9" * 400]
SCHEMA_WORDS = ("Input should", "Extra inputs", "Field required", "should have", "valid ", "tuple", "greater than")


@pytest.mark.parametrize("key", [*PriceRow.model_fields, "valid_from", "currency", "prices"])
@pytest.mark.parametrize("value", WRONG, ids=lambda value: str(value)[:8])
def test_whatever_is_wrong_is_said_in_words_with_something_to_write(tmp_path, key, value):
    row = {"sku": "l4", "usd_per_hour": "1", "source": "page"}
    file = {"valid_from": "2027-01-01", "currency": "USD", "prices": [row]}
    (file if key in file else row)[key] = value
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    refusal = refusal_of(tmp_path)
    assert refusal is None or (refusal.fix and len(str(refusal)) < 1_000)
    assert not [words for words in SCHEMA_WORDS if words in str(refusal)]


def refusal_of(folder: Path) -> PriceError | UnreadableFileError | None:
    """Read the folder's prices; the error, where they are refused."""
    try:
        read_price_book(folder)
    except (PriceError, UnreadableFileError) as error:
        return error
    return None


@pytest.mark.parametrize("content", ["", "[]", "3", "- a\n", "prices: []\nvalid_from: 2027-01-01\n", "a: &a [*a]\n"])
def test_a_file_that_is_no_price_file_at_all_is_said_in_words(tmp_path, content):
    (tmp_path / "p.yaml").write_text(content, encoding="utf-8")
    with pytest.raises((PriceError, UnreadableFileError)) as caught:
        read_price_book(tmp_path)
    assert caught.value.fix
    assert not [words for words in SCHEMA_WORDS if words in str(caught.value)]
