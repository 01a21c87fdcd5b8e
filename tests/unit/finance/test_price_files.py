"""Writing the price book: every price is a new file, whole or absent, and none is ever edited."""

from __future__ import annotations

import json
import shutil
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
from orchestrator.finance.prices.book import (
    PriceLayer,
    PriceLayerName,
    get_price,
    price_for,
    read_price_book,
    read_price_layers,
)
from orchestrator.finance.prices.catalogs import import_prices
from orchestrator.finance.prices.files import a_row, add_price
from orchestrator.ledger.observations import Machine
from tests.unit.finance.test_prices import SHIPPED, SPRING, a_book, ms

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
    return import_prices(
        a_csv(folder, text), PriceLayer(PriceLayerName.YOURS, book), book=read_price_book(book), **values
    )


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
    with pytest.raises(PriceError, match="no price from 2027-07-02 to correct"):
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
        ({"usd": "-1"}, "usd_per_hour: -1 is not a possible amount"),
        ({"sku": "L 4"}, "SKU is wrong: 'L 4'"),
        ({"market": "barter"}, "--market is wrong: 'barter'"),
        ({"source": ""}, "--source is wrong: it is empty"),
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
        ("rtx-3090", "on_demand"): "0.44",
        ("l4", "on_demand"): "0.333333",
    }
    dearest = rows["a100-80gb", "on_demand"]
    assert dearest.source == (
        "SkyPilot catalog vms.csv, read 2027-06-30, runpod, region US; the highest of 3 prices in 2 regions"
    )
    assert (dearest.match, dearest.region, rows["a100-80gb", "spot"].region) == (("A100-SXM4-80GB",), "", "CA")
    assert found.notes == (
        "1 left out: machines without a GPU",
        "1 left out: prices of zero, which are not valid prices",
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
    with pytest.raises(PriceError, match="the file has no price that can be written"):
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
        ("a,b\n1,2\n", "auto", UnreadableFileError, ":1: the file is not a catalog of SkyPilot or gpuhunt"),
        (SKYPILOT, "gpuhunt", UnreadableFileError, ":1: the file is not a catalog of gpuhunt"),
        ("\n", "auto", UnreadableFileError, "empty"),
    ],
)
def test_a_catalog_that_cannot_be_read_is_refused_in_words(tmp_path, text, kind, error, said):
    with pytest.raises(error) as caught:
        imported(tmp_path, text, kind=kind)
    assert said in caught.value.what
    assert [each.name for each in (tmp_path / "book").iterdir()] == ["spring.yaml"]


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ("cheap", "line 2: price: 'cheap' is not a number"),
        ("nan", "line 2: price: 'nan' is not a number"),
        ("-1.99", "a negative price"),
    ],
)
def test_a_row_that_cannot_be_read_is_left_out_and_named(tmp_path, price, said):
    found = imported(tmp_path, SKYPILOT.replace(",1.99", f",{price}"))
    assert ("a100-80gb", "2.09") in {(row.sku, row.usd_per_hour) for row in found.rows}
    assert any(said in note for note in found.notes)


def usd_of(folder: Path, gpu: str, provider: str) -> float | None:
    price = price_for(Machine(gpu, provider), LATER, read_price_book(folder / "book"))
    return None if price is None or price.provider != provider else price.usd_micros_per_h / 1_000_000


def offer(machine: str, name: str, count: int, gib: int, usd: str, maker: bool = True, total: int | None = None) -> str:
    made = "'Manufacturer': 'NVIDIA', " if maker else ""
    size, whole = gib * 1024, (total or gib * count) * 1024
    info = f"{{'Gpus': [{{'Name': '{name}', {made}'Count': {count}, 'MemoryInfo': {{'SizeInMiB': {size}}}}}], "
    return f"{machine},{name},{count}.0,8.0,64.0,\"{info}'TotalGpuMemoryInMiB': {whole}}}\",xx,,{usd}\n"


HEADER = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Region,SpotPrice,Price\n"


@pytest.mark.parametrize(
    ("row", "prices"),
    [
        # The memory is in the column of details alone.
        (offer("1x-A100", "A100", 1, 80, "0.9"), {"NVIDIA A100-SXM4-80GB": 0.9, "NVIDIA A100-SXM4-40GB": None}),
        (offer("1x-A100", "A100", 1, 40, "0.6"), {"NVIDIA A100-PCIE-40GB": 0.6, "NVIDIA A100 80GB PCIe": None}),
        (offer("8x-H100", "H100", 8, 80, "16"), {"NVIDIA H100 80GB HBM3": 2.0, "NVIDIA H100 PCIe": None}),
        (offer("NC40", "H100", 1, 94, "6.9"), {"NVIDIA H100 NVL": 6.9, "NVIDIA H100 80GB HBM3": None}),
        (offer("4x", "V100", 4, 32, "2"), {"Tesla V100-SXM2-32GB": 0.5, "Tesla V100-SXM2-16GB": None}),
        # Vast.ai gives the sum of all GPUs, no manufacturer, and tells Ti and form in the machine's name alone.
        (offer("2x-A100_SXM4-32-65536", "A100", 2, 80, "1.5", False, 80), {"NVIDIA A100-SXM4-40GB": 0.75}),
        (offer("2x-A100_SXM4-32-65536", "A100", 2, 160, "1.8", False, 160), {"NVIDIA A100-SXM4-80GB": 0.9}),
        (offer("1x-A100_PCIE-32-65536", "A100", 1, 80, "0.9", False), {"NVIDIA A100-SXM4-80GB": None}),
        (
            offer("2x-RTX_3060_Ti-32-65536", "RTX3060", 2, 16, "0.2", False, 16),
            {"NVIDIA GeForce RTX 3060 Ti": 0.1, "NVIDIA GeForce RTX 3060": None},
        ),
        (
            offer("vastv2-1x-RTX_4070S_Ti-16376-4-8192", "RTX4070", 1, 16, "0.2", False),
            {"NVIDIA GeForce RTX 4070 Ti SUPER": 0.2, "NVIDIA GeForce RTX 4070": None},
        ),
        (offer("1x-RTX_PRO_6000_S-32-1", "RTXPRO6000S", 1, 96, "1.2", False), {"NVIDIA RTX PRO 6000 Blackwell": 1.2}),
        # Lambda repeats one GPU's memory as the sum, and tells the form in the machine's name.
        (offer("gpu_8x_v100", "V100", 8, 16, "6.4", True, 16), {"Tesla V100-SXM2-16GB": 0.8}),
        (offer("gpu_1x_h100_pcie", "H100", 1, 80, "2.5"), {"NVIDIA H100 PCIe": 2.5, "NVIDIA H100 80GB HBM3": None}),
        (offer("1x_A100-80GB-SXM_SECURE", "A100-80GB-SXM", 1, 80, "1.5"), {"NVIDIA A100 80GB PCIe": None}),
        (offer("x", "RTX6000-Ada", 1, 48, "0.8"), {"NVIDIA RTX 6000 Ada Generation": 0.8, "Quadro RTX 6000": None}),
        (offer("x", "A6000", 2, 48, "1.6"), {"NVIDIA RTX A6000": 0.8, "NVIDIA RTX 6000 Ada Generation": None}),
        (offer("x", "GH200", 1, 96, "1.5"), {"NVIDIA GH200 480GB": 1.5, "NVIDIA H200": None}),
        # Binary floats of a cloud that divides in floats.
        (offer("rec", "RTXA6000", 4, 48, "3.2000000000999997"), {"NVIDIA RTX A6000": 0.8}),
    ],
)
def test_a_skypilot_row_prices_the_card_that_it_is_of_and_no_other(tmp_path, row, prices):
    imported(tmp_path, HEADER + row, provider="vast")
    assert {gpu: usd_of(tmp_path, gpu, "vast") for gpu in prices} == prices


def test_forms_that_a_catalog_tells_apart_stay_apart_although_the_book_has_one_price_for_both(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "book")
    rows = offer("1x_A100-80GB", "A100-80GB", 1, 80, "1.4").replace("'A100-80GB'", "'A100 PCIe'")
    imported(tmp_path, HEADER + rows + offer("1x_A100-80GB-SXM", "A100-80GB-SXM", 1, 80, "1.5"))
    assert usd_of(tmp_path, "NVIDIA A100 80GB PCIe", "runpod") == 1.4
    assert usd_of(tmp_path, "NVIDIA A100-SXM4-80GB", "runpod") == 1.5


def test_a_part_of_a_gpu_is_no_price_of_a_whole_one(tmp_path):
    text = HEADER + offer("x", "L4", 1, 24, "0.8") + "NV6ads_A10_v5,A10,0.167,6,55,,eastus,,0.454\n"
    found = imported(tmp_path, text)
    assert [row.sku for row in found.rows] == ["l4"]
    assert "machines with a part of a GPU" in found.notes[0]


def test_the_price_of_a_gpu_without_its_machine_says_so(tmp_path):
    found = imported(tmp_path, HEADER + ",A100,1.0,,,,us-central1,,2.9\n")
    assert found.rows[0].source.endswith("; the GPU alone, without its machine")
    assert "its machine is billed beside it" in found.notes[0]


def test_a_row_that_no_machine_will_be_priced_by_is_named_with_a_reason_and_a_remedy(tmp_path):
    text = (
        HEADER + offer("dl1", "Gaudi HL-205", 8, 32, "13.1") + offer("1x-RTX_4090-8-1", "RTX4090", 1, 48, "0.6", False)
    )
    found = imported(tmp_path, text, provider="vast")
    said = {each.row.sku: (each.why, each.fix) for each in found.never_used}
    assert "no driver is known" in said["gaudi-hl-205-32gb"][0]
    assert "TUNEMILL_GPU=gaudi-hl-205-32gb" in said["gaudi-hl-205-32gb"][1]
    assert "whatever the memory" in said["rtx-4090-48gb"][0]
    assert "costs rentals add" in said["rtx-4090-48gb"][1]


def test_a_row_that_the_users_own_price_goes_before_is_named(tmp_path):
    book, own = tmp_path / "home", tmp_path / "own"
    for folder in (book, own):
        folder.mkdir()
    add_price(own, gpu(sku="l4-24gb", usd="0.2", provider="vast"), date(2027, 1, 1))
    layers = [PriceLayer(PriceLayerName.HOME, book), PriceLayer(PriceLayerName.YOURS, own)]
    found = import_prices(
        a_csv(tmp_path, HEADER + offer("x", "L4", 1, 24, "0.8").replace(",xx,", ",,")),
        layers[0],
        book=read_price_layers(layers),
        valid_from=FIRST,
        read_on=FIRST,
        provider="vast",
    )
    assert [(each.row.sku, each.why) for each in found.never_used] == [
        ("l4-24gb", "l4-24gb at $0.20 in 2027-01-01.yaml (yours) goes before it")
    ]


@pytest.mark.parametrize(("written", "provider"), [("vastai", "vast"), ("Vast.ai", "vast"), ("lambdalabs", "lambda")])
def test_providers_are_named_as_workers_name_them(tmp_path, written, provider):
    assert imported(tmp_path, GPUHUNT, provider=written).rows[0].provider == provider


# The commands


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TUNEMILL_PRICES", raising=False)
    monkeypatch.setenv("COLUMNS", "160")


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
    yours = [row for row in found["prices"] if row["layer"] == "yours"]
    assert {row["sku"] for row in yours} == {"a100-80gb", "l4", "a10"}
    songs = [row for row in found["unit_prices"] if row["layer"] == "yours"]
    assert [(row["usd_micros"], row["in_force"]) for row in songs] == [(60_000, True)]
    assert (found["layers"][0]["name"], found["layers"][-1]["name"]) == ("installed", "yours")


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
    assert "4 prices written to" in done.stdout
    assert "left out" in done.stderr
    found = json.loads(run("import", catalog, "--provider", "runpod", "--prices", book, "--json").stdout)
    assert len(found["prices"]) == 4
    assert isinstance(run("import", catalog, "--provider", "x", "--kind", "magic").exception, SettingsError)


def test_options_before_the_command_are_not_lost_in_silence(tmp_path):
    assert isinstance(run("--json", "list").exception, SettingsError)
    assert isinstance(run("add", "l4", "1", "--source", "x", "--valid-from", "soon").exception, SettingsError)
