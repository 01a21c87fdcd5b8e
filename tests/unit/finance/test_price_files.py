"""Writing the price book: every price is a new file, whole or absent, and none is ever edited."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from catalog.errors import PriceError, SettingsError, UnreadableFileError
from orchestrator.cli.costs.prices import register_prices
from orchestrator.finance.prices.book import get_price, read_price_book
from orchestrator.finance.prices.files import a_row, add_price, import_prices
from tests.unit.finance.test_prices import SPRING, a_book, ms

FIRST = date(2027, 7, 1)
LATER = ms("2027-08-01")

SKYPILOT = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Region,SpotPrice,Price
1x_A100-80GB_SECURE,A100-80GB,1.0,8.0,80.0,"{'Gpus': [{'Name': 'A100', 'Count': 1}]}",CA,0.95,1.99
1x_A100-80GB_SECURE,A100-80GB,1.0,8.0,80.0,A100-80GB,US,,2.09
2x_A100-80GB_SECURE,A100-80GB,2.0,16.0,160.0,A100-80GB,US,,4.00
1x_RTX3090_SECURE,RTX3090,1.0,16.0,24.0,RTX3090,CA,0.0,0.44
3x_L4_SECURE,L4,3.0,4.0,24.0,L4,CA,,1.00
cpu5c,,,2.0,4.0,,CA,,0.07
"""
GPUHUNT = """\
instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,gpu_vendor,flags
a,us,0.5,30,240,1,A10,24.0,False,,nvidia,
b,us,1.2,30,240,4,A10,24.0,True,,nvidia,
c,eu,3.5,30,240,1,H100,80.0,False,,nvidia,
d,eu,0.1,4,16,0,,,False,,,
"""


def gpu(sku="l4", usd="0.70", **fields):
    return a_row(sku=sku, usd_per_hour=usd, source="list", **fields)


def a_csv(folder: Path, text: str) -> Path:
    path = folder / "vms.csv"
    path.write_text(text)
    return path


def imported(folder: Path, text: str, **options):
    book = folder / "book"
    book.mkdir(exist_ok=True)
    a_book(book, spring=SPRING)
    values = {"valid_from": FIRST, "read_on": date(2027, 6, 30), "provider": "runpod", **options}
    return import_prices(a_csv(folder, text), book, **values)


def test_a_new_price_is_a_new_file_and_the_old_ones_stay_as_they_are(tmp_path):
    a_book(tmp_path, spring=SPRING)
    before = (tmp_path / "spring.yaml").read_bytes()
    path = add_price(tmp_path, gpu(), FIRST)
    assert path.name == "2027-07-01.yaml"
    assert (tmp_path / "spring.yaml").read_bytes() == before
    book = read_price_book(tmp_path)
    assert get_price("NVIDIA L4", LATER, book).usd_micros_per_h == 700_000  # by the name the book matched it by
    assert get_price("NVIDIA L4", ms("2027-06-30"), book).usd_micros_per_h == 799_200
    assert sorted(each.name for each in tmp_path.iterdir()) == ["2027-07-01.yaml", "spring.yaml"]


def test_another_price_of_that_day_gets_a_file_of_its_own(tmp_path):
    add_price(tmp_path, gpu(), FIRST)
    assert add_price(tmp_path, gpu(market="spot"), FIRST).name == "2027-07-01-02.yaml"
    assert add_price(tmp_path, a_row(sku="l4", unit="gb_month", usd="0.1", source="x"), FIRST).stem == "2027-07-01-03"


def test_a_second_price_of_one_day_is_refused_unless_it_is_a_correction(tmp_path):
    add_price(tmp_path, gpu(), FIRST)
    with pytest.raises(PriceError, match=r"'l4' has a price from 2027-07-01 already: \$0.70 an hour") as caught:
        add_price(tmp_path, gpu(usd="0.60"), FIRST)
    assert "--correction" in caught.value.fix
    assert add_price(tmp_path, gpu(usd="0.60"), FIRST, is_correction=True).name == "2027-07-01-02.yaml"
    assert add_price(tmp_path, gpu(usd="0.50"), FIRST, is_correction=True).name == "2027-07-01-03.yaml"
    assert get_price("l4", LATER, read_price_book(tmp_path)).usd_micros_per_h == 500_000
    with pytest.raises(PriceError, match="no price from 2027-07-02 that could be corrected"):
        add_price(tmp_path, gpu(), date(2027, 7, 2), is_correction=True)


def test_a_correction_wins_over_a_file_of_any_name(tmp_path):
    a_book(tmp_path, zoo=SPRING)
    path = add_price(tmp_path, gpu(usd="0.60"), date(2027, 1, 1), is_correction=True)
    assert path.name == "zoo-02.yaml"
    assert get_price("l4", LATER, read_price_book(tmp_path)).usd_micros_per_h == 600_000


@given(st.integers(0, 10**10), st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=40))
def test_what_is_written_is_read_again_to_the_micro(tmp_path_factory, micros, source):
    folder = tmp_path_factory.mktemp("book")
    row = a_row(sku="l4", usd_per_hour=f"{micros // 10**6}.{micros % 10**6:06d}", source=source)
    add_price(folder, row, FIRST)
    [price] = read_price_book(folder).prices
    assert (price.usd_micros_per_h, price.source) == (micros, source)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"usd": "1.0000001"}, "usd_per_hour: 1.0000001 is finer than a micro"),
        ({"usd": "-1"}, "usd_per_hour"),
        ({"sku": "L 4"}, "sku"),
        ({"market": "barter"}, "market"),
        ({"source": ""}, "source"),
    ],
)
def test_a_wrong_price_is_refused_before_anything_is_written(fields, said):
    with pytest.raises(PriceError) as caught:
        gpu(**fields) if "source" not in fields else a_row(sku="l4", usd_per_hour="1", **fields)
    assert said in caught.value.what


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "book").write_text("a file")
    with pytest.raises(PriceError, match="no price file can be written") as caught:
        add_price(tmp_path / "book", gpu(), FIRST)
    assert "--prices" in caught.value.fix


def test_a_skypilot_catalog_becomes_one_dated_file_with_the_highest_price_of_each_gpu(tmp_path):
    found = imported(tmp_path, SKYPILOT)
    assert found.path.name == "2027-07-01.yaml"
    rows = {(row.sku, row.market): row for row in found.rows}
    assert {key: row.usd_per_hour for key, row in rows.items()} == {
        ("a100-80gb", "on_demand"): "2.09",
        ("a100-80gb", "spot"): "0.95",
        ("rtx3090", "on_demand"): "0.44",
    }
    dearest = rows["a100-80gb", "on_demand"]
    assert dearest.source == (
        "SkyPilot catalog vms.csv, read 2027-06-30, runpod, region US; the highest of 3 prices in 2 regions"
    )
    assert (dearest.match, dearest.region, rows["a100-80gb", "spot"].region) == (("A100-SXM4-80GB",), "", "CA")
    assert found.notes == (
        "2 left out: machines without a GPU",
        "1 left out: prices of zero, which is no price",
        "1 left out: prices that a whole micro-dollar for each GPU does not divide",
    )
    book = read_price_book(tmp_path / "book")
    assert get_price("NVIDIA A100-SXM4-80GB", LATER, book).usd_micros_per_h == 2_090_000
    assert get_price("NVIDIA GeForce RTX 3090", LATER, book).usd_micros_per_h == 440_000


def test_a_region_and_a_gpu_can_be_chosen(tmp_path):
    found = imported(tmp_path, SKYPILOT, region="ca", skus=("a100-80gb",))
    assert [(row.market, row.usd_per_hour, row.region) for row in found.rows] == [
        ("on_demand", "1.99", "CA"),
        ("spot", "0.95", "CA"),
    ]
    with pytest.raises(PriceError, match="no price is left to write"):
        imported(tmp_path, SKYPILOT, region="Mars")


def test_a_gpuhunt_catalog_is_divided_by_its_gpus(tmp_path):
    found = imported(tmp_path, GPUHUNT, provider="lambda")
    assert [(row.sku, row.market, row.usd_per_hour, row.vram_gib) for row in found.rows] == [
        ("a10", "on_demand", "0.50", 24),
        ("a10", "spot", "0.30", 24),
        ("h100-80gb", "on_demand", "3.50", 80),
    ]


def test_an_import_twice_is_refused_and_a_correction_is_not(tmp_path):
    imported(tmp_path, GPUHUNT)
    with pytest.raises(PriceError, match="'a10' has a price from 2027-07-01 already"):
        imported(tmp_path, GPUHUNT)
    assert imported(tmp_path, GPUHUNT, is_correction=True).path.name == "2027-07-01-02.yaml"


@pytest.mark.parametrize(
    ("text", "kind", "error", "said"),
    [
        ("a,b\n1,2\n", "auto", UnreadableFileError, ":1: the file is no catalog of SkyPilot or gpuhunt"),
        (SKYPILOT, "gpuhunt", UnreadableFileError, ":1: the file is no catalog of gpuhunt"),
        (SKYPILOT.replace(",1.99", ",cheap"), "auto", PriceError, ":2: price: 'cheap' is no number"),
        (SKYPILOT.replace(",1.99", ",nan"), "auto", PriceError, ":2: price: 'nan' is no number"),
        (SKYPILOT.replace(",1.99", ",-1.99"), "auto", PriceError, ":2: a negative price"),
        ("\n", "auto", UnreadableFileError, "empty"),
    ],
)
def test_a_catalog_that_cannot_be_read_is_refused_in_words(tmp_path, text, kind, error, said):
    with pytest.raises(error) as caught:
        imported(tmp_path, text, kind=kind)
    assert said in caught.value.what
    assert [each.name for each in (tmp_path / "book").iterdir()] == ["spring.yaml"]


# The commands


def run(*arguments: str):
    app = typer.Typer()
    costs = typer.Typer()
    register_prices(costs)
    app.add_typer(costs, name="costs")
    return CliRunner().invoke(app, ["costs", "prices", *arguments])


def test_without_a_command_the_book_is_shown_as_list_shows_it(tmp_path):
    a_book(tmp_path, spring=SPRING.replace("2027", "2020"))
    add_price(
        tmp_path, a_row(sku="song", unit="song", usd="0.06", songs_per_request=2, source="page"), date(2020, 1, 1)
    )
    shown = run("--prices", str(tmp_path))
    assert shown.exit_code == 0, shown.exception
    assert shown.stdout == run("list", "--prices", str(tmp_path)).stdout
    assert "0.799200" in shown.stdout
    assert "song, 2 a request" in shown.stdout
    found = json.loads(run("--prices", str(tmp_path), "--json").stdout)
    assert {row["sku"] for row in found["prices"]} == {"a100-80gb", "l4", "a10"}
    assert [(row["usd_micros"], row["in_force"]) for row in found["unit_prices"]] == [(60_000, True)]


def test_add_writes_and_says_where(tmp_path):
    arguments = ("--source", "contract 7", "--valid-from", "2027-07-01", "--prices", str(tmp_path))
    added = run("add", "l4", "$0.70", *arguments)
    assert added.exit_code == 0, added.exception
    assert "1 price written to" in added.stdout
    again = run("add", "l4", "0.60", *arguments)
    assert isinstance(again.exception, PriceError)
    song = run("add", "mureka", "0.06", "--unit", "song", "--songs-per-request", "2", *arguments, "--json")
    found = json.loads(song.stdout)
    assert (Path(found["file"]).name, found["prices"][0]["usd_micros"]) == ("2027-07-01-02.yaml", 60_000)
    assert yaml.safe_load((tmp_path / "2027-07-01.yaml").read_text()) == {
        **{"valid_from": FIRST, "currency": "USD"},
        "prices": [{"sku": "l4", "usd_per_hour": "0.70", "source": "contract 7"}],
    }


def test_import_writes_and_says_what_it_left_out(tmp_path):
    catalog = str(a_csv(tmp_path, SKYPILOT))
    book = str(tmp_path / "book")
    done = run("import", catalog, "--provider", "runpod", "--valid-from", "2027-07-01", "--prices", book)
    assert done.exit_code == 0, done.exception
    assert "3 prices written to" in done.stdout
    assert "left out" in done.stderr
    found = json.loads(run("import", catalog, "--provider", "runpod", "--prices", book, "--json").stdout)
    assert len(found["prices"]) == 3
    assert isinstance(run("import", catalog, "--provider", "x", "--kind", "magic").exception, SettingsError)


def test_options_before_the_command_are_not_lost_in_silence(tmp_path):
    assert isinstance(run("--json", "list").exception, SettingsError)
    assert isinstance(run("add", "l4", "1", "--source", "x", "--valid-from", "soon").exception, SettingsError)
