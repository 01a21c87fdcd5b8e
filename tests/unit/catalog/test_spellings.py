"""Settings in the spellings of their own libraries' users: taken right, or refused with what to write."""

from pathlib import Path

import pytest

from catalog import settings as settings_module
from catalog import store_address
from catalog.errors import SettingsError
from catalog.settings import Settings, read_settings
from catalog.spellings import is_in_clear


def read(**variables: str) -> Settings:
    return read_settings({f"TUNEMILL_{name}": value for name, value in variables.items()})


TAKEN = [
    ("DEVICE", "CUDA", "cuda"),
    ("DEVICE", "gpu", "cuda"),
    ("DEVICE", "GPU:1", "cuda:1"),
    ("DEVICE", "0", "cuda:0"),
    ("DEVICE", "cuda1", "cuda:1"),
    ("DEVICE", "cuda:00", "cuda:0"),
    ("DEVICE", "Metal", "mps"),
    ("DEVICE", "auto", None),
    ("OFFLOAD", "TRUE", "on"),
    ("OFFLOAD", "0", "off"),
    ("COMPILE", "Off", "off"),
    ("QUANTIZE", "INT8", "int8"),
    ("QUANTIZE", "false", "none"),
    ("QUANTIZE", "FP-8", "fp8"),
    ("MARKET", "On-Demand", "on_demand"),
    ("MARKET", "SPOT", "spot"),
    ("S3_ADDRESSING", "Virtual", "virtual"),
    ("S3_CHECKSUMS", "no", "off"),
    ("HEARTBEAT_S", "15s", 15.0),
    ("STORE_PATIENCE_S", "2 min", 120.0),
    ("STORE_PATIENCE_S", "0", 0.0),
    ("VRAM_GIB", "24 GiB", 24.0),
    ("WINDOW", " 512 ", 512),
    ("MAX_USD", "$20", "20"),
    ("MAX_USD", "USD 20.50", "20.50"),
    ("MAX_USD", "20.50 usd", "20.50"),
    ("FINANCE_TZ", "europe/berlin", "Europe/Berlin"),
    ("FINANCE_TZ", "America/new york", "America/New_York"),
    ("WEIGHTS_SHA256", "SHA256:" + "AB" * 32, "ab" * 32),
    ("BROKER_URL", "redis://host", "redis://host"),
    ("BROKER_URL", "REDIS://host:6379/0", "redis://host:6379/0"),
    ("BROKER_URL", "valkey://u:p@host:6379/1", "redis://u:p@host:6379/1"),
    ("BROKER_URL", "valkeys://host", "rediss://host?ssl_cert_reqs=required"),
    ("BROKER_URL", "rediss://host/0?ssl_cert_reqs=CERT_NONE", "rediss://host/0?ssl_cert_reqs=none"),
    (
        "BROKER_URL",
        "rediss://host/0?ssl_ca_certs=/etc/ca.crt",
        "rediss://host/0?ssl_ca_certs=/etc/ca.crt&ssl_cert_reqs=required",
    ),
    ("BROKER_URL", "unix:///run/v.sock?db=2", "redis+socket:///run/v.sock?virtual_host=2"),
    ("BROKER_URL", "unix:///run/v.sock?password=a%2Fb", "redis+socket://:a%2Fb@/run/v.sock"),
    ("BROKER_URL", "redis+socket:///run/v?virtual_host=0", "redis+socket:///run/v?virtual_host=0"),
    ("DATABASE_URL", "postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
    ("DATABASE_URL", "postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
    ("DATABASE_URL", "postgresql+psycopg2://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
    ("DATABASE_URL", "postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql+psycopg://u:p@h/d?sslmode=require"),
    ("DATABASE_URL", "jdbc:postgresql://h:5432/d", "postgresql+psycopg://h:5432/d"),
    ("DATABASE_URL", "sqlite:////srv/l.sqlite", "sqlite:////srv/l.sqlite"),
    ("DATABASE_URL", "sqlite+pysqlite:///l.sqlite", "sqlite:///l.sqlite"),
    ("DATABASE_URL", "sqlite:l.sqlite", "sqlite:///l.sqlite"),
    ("DATABASE_URL", "sqlite:/srv/l.sqlite", "sqlite:////srv/l.sqlite"),
    ("DATABASE_URL", "/srv/l.sqlite", "sqlite:////srv/l.sqlite"),
    ("DATABASE_URL", "./l.db", "sqlite:///./l.db"),
    ("DATABASE_URL", "sqlite:///~/l.sqlite", "sqlite:////home/me/l.sqlite"),
    ("STORE_URL", "S3://Bucket", "s3://Bucket"),
    ("STORE_URL", "s3a://bucket/", "s3://bucket"),
    ("STORE_URL", "s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
    ("STORE_URL", "file:///srv/my%20music", "/srv/my music"),
    ("STORE_URL", "~/music", "/home/me/music"),
    ("STORE_URL", "$HOME/music", "/home/me/music"),
    ("STORE_URL", "music", "music"),
    ("STORE_URL", '"s3://bucket/prefix"\r\n', "s3://bucket/prefix"),
    ("S3_ENDPOINT_URL", "HTTPS://minio.local:9000/", "https://minio.local:9000"),
    ("S3_ENDPOINT_URL", "https://x.supabase.co/storage/v1/s3", "https://x.supabase.co/storage/v1/s3"),
    ("HOME", "~/mill", Path("/home/me/mill")),
    ("HOME", "${HOME}/mill", Path("/home/me/mill")),
    ("HOME", "'/srv/mill'", Path("/srv/mill")),
    ("WEIGHTS", "~/weights", "/home/me/weights"),
    ("WEIGHTS", "owner/name@0123456", "owner/name@0123456"),
    ("TONE_FAULTS", "Silence = .1; noise=0.05", "silence=0.1,noise=0.05"),
    ("TONE_FAULTS", "failure=1", "failure=1"),
    ("TONE_FAULTS", "", ""),
]


@pytest.mark.parametrize(("variable", "written", "meant"), TAKEN)
def test_a_spelling_is_taken_for_what_it_means(monkeypatch, variable, written, meant):
    monkeypatch.setenv("HOME", "/home/me")
    assert getattr(read(**{variable: written}), variable.lower()) == meant


@pytest.mark.parametrize(("variable", "written", "meant"), TAKEN)
def test_what_a_spelling_is_brought_to_stays_as_it_is(monkeypatch, variable, written, meant):
    monkeypatch.setenv("HOME", "/home/me")
    if meant is not None:
        assert getattr(read(**{variable: str(meant)}), variable.lower()) == meant


REFUSED = [
    ("DEVICE", "cdua", "write cuda"),
    ("DEVICE", "cuda:0,1", "--all-gpus"),
    ("DEVICE", "tpu", "write TUNEMILL_DEVICE=cuda"),
    ("QUANTIZE", "int4", "write int8"),
    ("OFFLOAD", "maybe", "write auto or on or off"),
    ("VERIFY_ORDERS", "abc", "worker-login key"),
    ("HEARTBEAT_S", "ten", "write seconds, such as 90"),
    ("STORE_PATIENCE_S", "1,5", "write a point before the decimals"),
    ("STORE_PATIENCE_S", "-1", "TUNEMILL_STORE_PATIENCE_S=120"),
    ("VRAM_GIB", "24GB", "write GiB"),
    ("VRAM_GIB", "0", "TUNEMILL_VRAM_GIB=24"),
    ("WINDOW", "many", "TUNEMILL_WINDOW=256"),
    ("WINDOW", "99999", "TUNEMILL_WINDOW=256"),
    ("MAX_USD", "20,5", "20.50"),
    ("MAX_USD", "1,000", "1000"),
    ("MAX_USD", "20€", "12.50"),
    ("MAX_USD", "-1", "12.50"),
    ("MAX_USD", "nan", "12.50"),
    ("MAX_USD", "1e3", "12.50"),
    ("FINANCE_TZ", "Europe/Berlim", "write Europe/Berlin"),
    ("FINANCE_TZ", "somewhere", "Europe/Berlin"),
    ("WEIGHTS_SHA256", "abc", "sidecar"),
    ("RENTAL", "pod1", "TUNEMILL_RENTAL="),
    ("BROKER_URL", "localhost:6379", "TUNEMILL_BROKER_URL=redis://localhost:6379"),
    ("BROKER_URL", "broker.example.com", "TUNEMILL_BROKER_URL=redis://broker.example.com"),
    ("BROKER_URL", "/run/valkey.sock", "redis+socket:///path"),
    ("BROKER_URL", "amqp://u:hidden@x/", "rediss://user:password@host"),
    ("BROKER_URL", "redis://u:hid/den@x:6379/0", "%2F"),
    ("BROKER_URL", "redis://x:6379/0 # hidden", "a comment needs a line of its own"),
    ("BROKER_URL", "rediss://x/0?ssl_cert_reqs=maybe", "ssl_cert_reqs=required"),
    ("BROKER_URL", "unix://v.sock", "redis+socket:///path/to/socket"),
    ("DATABASE_URL", "sqlite://l.sqlite", "sqlite:///name.sqlite"),
    ("DATABASE_URL", "mysql://u:hidden@h/d", "postgresql+psycopg://user:password@host/name"),
    ("DATABASE_URL", "host=h password=hidden", "postgresql+psycopg://user:password@host/name"),
    ("DATABASE_URL", "u:hidden@h/d", "postgresql+psycopg://user:password@host/name"),
    ("STORE_URL", "https://bkt.s3.eu-west-1.amazonaws.com/pre", "s3://bkt/pre and AWS_REGION=eu-west-1"),
    ("STORE_URL", "https://s3.eu-west-1.amazonaws.com/bkt/pre", "s3://bkt/pre and AWS_REGION=eu-west-1"),
    ("STORE_URL", "https://bkt.s3.amazonaws.com", "TUNEMILL_STORE_URL=s3://bkt"),
    (
        "STORE_URL",
        "https://bkt.nyc3.digitaloceanspaces.com/pre",
        "s3://bkt/pre and TUNEMILL_S3_ENDPOINT_URL=https://nyc3.digitaloceanspaces.com",
    ),
    ("STORE_URL", "http://minio:9000/bkt", "s3://bkt and TUNEMILL_S3_ENDPOINT_URL=http://minio:9000"),
    ("STORE_URL", "https://u:hidden@h/bkt?sig=hidden", "TUNEMILL_S3_ENDPOINT_URL=https://host"),
    ("STORE_URL", "gs://bkt", "TUNEMILL_S3_ENDPOINT_URL=https://storage.googleapis.com"),
    ("STORE_URL", "az://bkt", "S3 gateway"),
    ("STORE_URL", "arn:aws:s3:::bkt/pre", "write s3://bkt/pre"),
    ("STORE_URL", "s3:bkt/pre", "write s3://bkt/pre"),
    ("STORE_URL", "s3://key:hidden@bkt/x", "~/.aws"),
    ("STORE_URL", "s3://bkt/x?secret=hidden", "s3://bucket/prefix"),
    ("S3_ENDPOINT_URL", "minio.local:9000", "http://minio.local:9000"),
    ("S3_ENDPOINT_URL", "https://k:hidden@h", "AWS_SECRET_ACCESS_KEY"),
    ("HOME", "$NOWHERE/x", "write the path in full"),
    ("HOME", "s3://bkt", "write a path"),
    ("PRESETS", "~nobody-at-all/x", "write the path in full"),
    ("REGION", "x" * 65, "TUNEMILL_REGION="),
    ("TONE_FAULTS", "silense=0.1", "write silence"),
    ("TONE_FAULTS", "silence", "write silence=0.1"),
    ("TONE_FAULTS", "silence=0.1,silence=0.2", "once for each name"),
    ("TONE_FAULTS", "silence=a lot", "write"),
    ("TONE_FAULTS", "silence=0.7,noise=0.7", "at most 1"),
    ("TONE_FAULTS", "silence=-0.1", "at most 1"),
]


@pytest.mark.parametrize(("variable", "written", "to_write"), REFUSED)
def test_what_cannot_be_meant_is_refused_with_what_to_write(variable, written, to_write):
    with pytest.raises(SettingsError) as caught:
        read(**{variable: written})
    assert f"TUNEMILL_{variable} is wrong" in caught.value.what
    assert to_write in caught.value.fix
    assert "hidden" not in str(caught.value)
    assert "Input should" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "bucket", "left"),
    [
        ("https://acc.r2.cloudflarestorage.com/bkt", "bkt", "https://acc.r2.cloudflarestorage.com"),
        ("https://bkt.nyc3.digitaloceanspaces.com", "bkt", "https://nyc3.digitaloceanspaces.com"),
        ("https://bkt.s3.us-west-004.backblazeb2.com", "bkt", "https://s3.us-west-004.backblazeb2.com"),
        ("https://minio.example.com", "minio", "https://minio.example.com"),
        ("https://s3.amazonaws.com", "s3", "https://s3.amazonaws.com"),
        ("https://x.supabase.co/storage/v1/s3", "bkt", "https://x.supabase.co/storage/v1/s3"),
    ],
)
def test_a_bucket_in_the_address_of_its_service_is_taken_out(endpoint, bucket, left):
    assert store_address.without_bucket(endpoint, bucket) == left


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("s3.amazonaws.com", None),
        ("s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"),
        ("acc.r2.cloudflarestorage.com", "auto"),
        ("s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("s3.wasabisys.com", None),
        ("nyc3.digitaloceanspaces.com", "nyc3"),
        ("s3.gra.io.cloud.ovh.net", "gra"),
        ("cos.ap-guangzhou.myqcloud.com", "ap-guangzhou"),
        ("ns.compat.objectstorage.eu-frankfurt-1.oci.customer-oci.com", "eu-frankfurt-1"),
        ("storage.googleapis.com", None),
        ("minio.example.com", None),
        ("s3.example.com", None),
        ("localhost", None),
    ],
)
def test_a_service_whose_address_tells_its_region_is_asked_in_it(host, region):
    assert store_address.region_of(host) == region


def test_a_name_that_is_nearly_a_settings_is_an_error(caplog):
    for slip, meant in (
        ("MAXUSD", "MAX_USD"),
        ("MAX_US", "MAX_USD"),
        ("STORE", "STORE_URL"),
        ("S3_ENDPOINT", "S3_ENDPOINT_URL"),
        ("BROKER", "BROKER_URL"),
        ("DEVCIE", "DEVICE"),
    ):
        with pytest.raises(SettingsError) as caught:
            read(**{slip: "20"})
        assert caught.value.fix == f"write TUNEMILL_{meant}, or unset TUNEMILL_{slip}"
    with pytest.raises(SettingsError, match="no setting TUNEMILL_MAXUSD"):
        read_settings({"export TUNEMILL_MAXUSD": "20"})


def test_another_unknown_name_is_said_once(caplog):
    settings_module._tell_unknown.cache_clear()
    read(SPEND_LIMIT="20")
    read(SPEND_LIMIT="20")
    assert [record.getMessage() for record in caplog.records] == [
        "TUNEMILL_SPEND_LIMIT is not a setting of this version and has no effect"
    ]


def test_what_kubernetes_and_docker_add_for_a_neighbour_is_no_setting_of_ours(caplog):
    found = read(
        BROKER_PORT="tcp://10.0.0.7:6379",
        BROKER_SERVICE_HOST="10.0.0.7",
        BROKER_PORT_6379_TCP_ADDR="10.0.0.7",
        BROKER_SERVICE_PORT_REDIS="6379",
    )
    assert found.broker_url is None
    assert caplog.records == []


def test_names_are_read_in_any_case_and_capitals_count_first():
    assert read_settings({"tunemill_window": "300"}).window == 300
    assert read_settings({"tunemill_window": "300", "TUNEMILL_WINDOW": "400"}).window == 400


def test_a_user_without_a_home_folder_is_asked_for_one(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(settings_module.Path, "home", nowhere)
    with pytest.raises(SettingsError, match="TUNEMILL_HOME is not set"):
        read()


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("redis://10.0.0.7:6379/0", True),
        ("redis://broker.example.com", True),
        ("redis://localhost:6379", False),
        ("redis://127.0.0.1", False),
        ("redis://[::1]:6379", False),
        ("rediss://broker.example.com", False),
        ("redis+socket:///run/v", False),
    ],
)
def test_only_a_broker_across_a_network_without_tls_is_spoken_to_in_clear(url, in_clear):
    assert is_in_clear(url) is in_clear
