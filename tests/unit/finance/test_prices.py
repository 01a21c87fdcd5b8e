"""The price book: dated, exact, matched by name, and never zero for what it does not know."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent

import pytest

from catalog.errors import PriceError, SettingsError, UnreadableFileError
from orchestrator.finance.money import micros_of, parse_usd
from orchestrator.finance.prices.book import (
    find_prices_folder,
    get_price,
    names_gpu,
    price_for,
    price_for_gpu,
    read_price_book,
)
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
    assert "NVIDIA B300" in caught.value.fix
    assert caught.value.exit_code == 20


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"0.7992"', '"cheap"', ":6: prices.2.usd_per_hour: 'cheap' is no amount"),
        ('"0.7992"', '"-1"', ":6: prices.2.usd_per_hour"),
        ('"0.7992"', '".nan"', ":6: prices.2.usd_per_hour"),
        ("sku: l4, match", "sku: l4, mach", ":6: prices.2.mach: Extra inputs"),
        ("currency: USD", "currency: EUR", ":2: currency"),
        ("2027-01-01", "someday", ":1: valid_from"),
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


def test_a_folder_without_price_files_is_an_error(tmp_path):
    with pytest.raises(PriceError, match="no price file"):
        read_price_book(tmp_path / "nowhere")


def test_the_option_comes_before_the_setting_and_both_before_the_installed_folder(tmp_path):
    assert find_prices_folder(tmp_path / "a", tmp_path / "b") == tmp_path / "a"
    assert find_prices_folder(None, tmp_path / "b") == tmp_path / "b"
    assert any(find_prices_folder().glob("*.yaml"))


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
        ("songs_per_request: 2, ", "", ":3: prices.0: songs_per_request stands in every row of unit song"),
        ("songs_per_request: 2", "songs_per_request: 0", ":3: prices.0.songs_per_request"),
        ('usd: "0.20"', 'usd_per_hour: "0.20"', ":5: prices.2: usd_per_hour, match and vram_gib are of GPUs"),
        ('usd: "0.20", ', "", ":5: prices.2: a row has either usd_per_hour, or unit and usd"),
        ('usd: "0.20"', 'usd: "0.20", usd_per_hour: "1"', ":5: prices.2: a row has either"),
        ('unit: gb_month, usd: "0.20"', 'unit: acre, usd: "0.20"', ":5: prices.2.unit"),
        ('usd: "0.067"', 'usd: "0"', ":4: prices.1: a song that costs nothing"),
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
