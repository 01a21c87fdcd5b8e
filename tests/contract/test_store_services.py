"""Stores as they are sold: the S3 store beside services with habits of their own."""

import hashlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from botocore.exceptions import ClientError

from catalog.errors import StoreError, StoreFullError
from catalog.settings import Settings
from catalog.store import open_proven_store, open_store, opening, s3_wire
from tests.support.odd_s3 import (
    OddS3,
    Refusal,
    first,
    no_checksums,
    no_conditions,
    resolve_names_in_front,
    serving,
    virtual_only,
)

AUDIO = b"fLaC" + bytes(range(256)) * 300
KEY = "spa/audio/thermal/ambient/ab12.flac"
ACCESS_KEY, SECRET = "AKIATESTTESTTEST", "wJalr-secret-of-the-test"


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(s3_wire, "ATTEMPTS", 1)  # else each refusal is slept over
    resolve_names_in_front(monkeypatch)


@pytest.fixture
def serve(request):
    """Start a service with these habits."""

    def start(*habits):
        service = OddS3(*habits)
        running = serving(service)
        running.__enter__()
        request.addfinalizer(lambda: running.__exit__(None, None, None))
        return service

    return start


def store_at(service, **settings):
    return open_store("s3://bkt/pre", s3_endpoint_url=service.url, **settings)


def put(store, key=KEY, body=AUDIO, **more):
    store.put(key, body, content_type="audio/flac", sha256=hashlib.sha256(body).hexdigest(), **more)


def prove_use(store, tmp_path):
    """Every method does what it promises."""
    store.check()
    put(store)
    (tmp_path / "file").write_bytes(AUDIO)
    store.put_file("t/file", tmp_path / "file", content_type="text/plain")
    assert store.put_if_absent("spa/takes/a.json", b"{}", content_type="application/json")
    assert not store.put_if_absent("spa/takes/a.json", b"[]", content_type="application/json")
    assert store.find("spa/takes/a.json") == b"{}"
    assert store.stat(KEY).size == len(AUDIO)
    assert store.sha256_of("t/file") == hashlib.sha256(AUDIO).hexdigest()
    assert [info.key for info in store.list("")] == [KEY, "spa/takes/a.json", "t/file"]
    store.delete(KEY)
    store.delete(KEY)
    assert store.stat(KEY) is None
    assert store.find(KEY) is None


@pytest.mark.parametrize("settings", [{}, {"s3_addressing": "virtual"}])
def test_a_service_that_wants_the_bucket_in_the_host_is_served(serve, tmp_path, settings):
    prove_use(store_at(serve(virtual_only), **settings), tmp_path)


@pytest.mark.parametrize("settings", [{}, {"s3_checksums": "off"}])
def test_a_service_that_knows_no_checksum_headers_is_served(serve, tmp_path, settings):
    prove_use(store_at(serve(no_checksums), **settings), tmp_path)


def test_a_service_with_both_habits_is_served(serve, tmp_path):
    prove_use(store_at(serve(virtual_only, no_checksums)), tmp_path)


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchBucket"), (403, "AccessDenied"), (400, "InvalidRequest")])
def test_whatever_words_a_service_refuses_the_path_with_the_host_is_tried(serve, tmp_path, status, code):
    habit = lambda asked: None if asked.is_virtual else Refusal(status, code)  # noqa: E731
    prove_use(store_at(serve(habit)), tmp_path)


def test_the_habit_found_is_said_once_with_the_setting_that_pins_it(serve, caplog):
    store = store_at(serve(virtual_only, no_checksums))
    store.check()
    put(store)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "TUNEMILL_S3_ADDRESSING=virtual" in said[0]
    assert "TUNEMILL_S3_CHECKSUMS=off" in said[1]


def test_a_service_that_takes_sums_in_headers_and_not_in_trailers_gets_files_without(serve, tmp_path, monkeypatch):
    store = store_at(serve())
    store.check()
    (tmp_path / "file").write_bytes(AUDIO)
    upload = s3_wire.boto3.s3.transfer.S3Transfer.upload_file
    asked_with = []

    def refuse_sums(self, *arguments, extra_args=None, **options):
        asked_with.append("ChecksumAlgorithm" in extra_args)
        if asked_with[-1]:  # over TLS, which this service has not, the sum would follow in a trailer
            raise ClientError({"Error": {"Code": "Unauthorized"}, "ResponseMetadata": {"HTTPStatusCode": 401}}, "Put")
        return upload(self, *arguments, extra_args=extra_args, **options)

    monkeypatch.setattr(s3_wire.boto3.s3.transfer.S3Transfer, "upload_file", refuse_sums)
    store.put_file("t/file", tmp_path / "file", content_type="text/plain")
    assert asked_with == [True, False]
    assert store.find("t/file") == AUDIO


def test_many_threads_find_the_same_way(serve):
    store = store_at(serve(virtual_only, no_checksums))
    together = threading.Barrier(8)

    def write(number):
        together.wait()
        put(store, f"spa/{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(list(store.list("spa/"))) == 8


def test_what_was_once_understood_is_not_blamed_for_a_refusal(serve, caplog):
    service = serve()
    store = store_at(service)
    store.check()
    service.habits.append(lambda asked: Refusal(403, "AccessDenied") if not asked.has("content-md5") else None)
    asked_before = len(service.asked)
    with pytest.raises(StoreError, match="cannot write"):
        put(store)
    assert len(service.asked) == asked_before + 1
    assert caplog.records == []


def test_a_setting_is_obeyed_and_named_where_it_is_refused(serve):
    with pytest.raises(StoreError) as style:
        store_at(serve(virtual_only), s3_addressing="path").check()
    assert "TUNEMILL_S3_ADDRESSING" in style.value.fix
    with pytest.raises(StoreError) as sums:
        store_at(serve(no_checksums), s3_checksums="on").check()
    assert "TUNEMILL_S3_CHECKSUMS=off" in sums.value.fix
    assert "header not known here: x-amz-checksum" in sums.value.why


def test_the_librarys_own_settings_are_heeded(serve, monkeypatch, tmp_path):
    service = serve()
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.url)
    store = open_store("s3://bkt/pre")
    store.check()
    assert all(asked.is_virtual for asked in service.asked)


@pytest.mark.parametrize(
    ("status", "code"),
    [(501, "NotImplemented"), (400, "InvalidArgument"), (400, "InvalidRequest"), (403, "AccessDenied"), (405, "Odd")],
)
def test_a_refused_condition_is_given_up_whatever_the_refusal(serve, tmp_path, caplog, status, code):
    prove_use(store_at(serve(no_conditions(status, code))), tmp_path)
    assert f"refuses conditional writes (If-None-Match: {code})" in caplog.text


def test_a_service_that_finds_every_condition_failed_is_not_believed(serve, tmp_path):
    prove_use(store_at(serve(no_conditions(412, "PreconditionFailed"))), tmp_path)


def test_a_service_that_ignores_conditions_is_found_out(serve, tmp_path, caplog):
    service = serve()
    service.heeds_conditions = False
    prove_use(store_at(service), tmp_path)
    assert "ignores conditional writes" in caplog.text


@pytest.mark.parametrize("status", [304, 409])
def test_an_object_that_is_there_is_found_by_other_answers_too(serve, monkeypatch, status):
    monkeypatch.setattr("catalog.store.s3.time.sleep", lambda seconds: None)
    service = serve()
    store = store_at(service)
    assert store.put_if_absent("a", b"1", content_type="text/plain")
    service.habits.append(no_conditions(status, "FileAlreadyExists"))
    assert not store.put_if_absent("a", b"2", content_type="text/plain")
    assert store.find("a") == b"1"


def test_what_both_writes_are_refused_for_is_no_matter_of_the_condition(serve, caplog):
    service = serve()
    store = store_at(service)
    store.check()
    service.habits.append(lambda asked: Refusal(403, "AccessDenied") if asked.method == "PUT" else None)
    with pytest.raises(StoreError, match="cannot write") as caught:
        store.put_if_absent("a", b"1", content_type="text/plain")
    assert caught.value.needs_person
    assert "conditional" not in caplog.text


def test_a_busy_service_costs_no_condition(serve, caplog):
    service = serve()
    store = store_at(service)
    store.check()
    service.habits.append(no_conditions(503, "SlowDown"))
    with pytest.raises(StoreError, match="cannot write") as caught:
        store.put_if_absent("a", b"1", content_type="text/plain")
    assert not caught.value.needs_person
    assert "conditional" not in caplog.text


def test_the_services_own_words_are_shown_without_credentials(serve):
    words = f"The key {ACCESS_KEY} with {SECRET} may not"
    service = serve(lambda asked: Refusal(403, "AccessDenied", words))
    with pytest.raises(StoreError) as caught:
        store_at(service).check()
    assert "AccessDenied: The key *** with *** may not; request 4442587FB7D0A2F9" in caught.value.why
    assert ACCESS_KEY not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_without_checksum_headers_bytes_that_were_not_kept_are_noticed(serve):
    service = serve(no_checksums)
    store = store_at(service, s3_checksums="off")
    service.etag = lambda body: "multipart-1"  # proves nothing: the object is read back
    put(store)
    service.keeps = lambda body: body[:-1] + b"?"
    with pytest.raises(StoreError, match="differs from what was written"):
        put(store)
    service.etag = lambda body: hashlib.md5(body).hexdigest()  # noqa: S324
    reads = sum(asked.method == "GET" for asked in service.asked)
    put(store)
    assert sum(asked.method == "GET" for asked in service.asked) == reads


def test_a_service_that_says_what_it_removed_was_not_there_is_believed(serve, tmp_path):
    service = serve()
    service.absent_deletion = 404
    prove_use(store_at(service), tmp_path)


def test_audio_may_be_kept_for_ever_and_has_a_name_and_sidecars_are_asked_for_each_time(serve):
    service = serve()
    store = store_at(service)
    put(store, file_name='Zürich "am" See (2).flac')
    store.put_if_absent("spa/takes/a.json", b"{}", content_type="application/json")
    audio, sidecar = service.headers[f"pre/{KEY}"], service.headers["pre/spa/takes/a.json"]
    assert audio["Cache-Control"] == "max-age=31536000, immutable"
    assert audio["Content-Disposition"] == (
        "inline; filename=\"Z_rich _am_ See (2).flac\"; filename*=UTF-8''Z%C3%BCrich%20%22am%22%20See%20%282%29.flac"
    )
    assert sidecar["Cache-Control"] == "no-cache"
    assert sidecar["Content-Disposition"] is None


def open_at_start(service, patience_s):
    return open_proven_store(
        Settings(store_url="s3://bkt/pre", s3_endpoint_url=service.url, store_patience_s=patience_s)
    )


@pytest.fixture
def waits(monkeypatch):
    slept = []
    monkeypatch.setattr(opening.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("refusal", [Refusal(503, "SlowDown"), Refusal(500, "InternalError"), Refusal(429, "Odd")])
def test_a_store_that_is_busy_at_start_is_waited_for(serve, waits, caplog, refusal):
    caplog.set_level(logging.WARNING)
    open_at_start(serve(first(3, refusal)), 60)
    assert waits == [0.5, 1.0, 2.0]
    assert f"{refusal.code}: no details" in caplog.text


@pytest.mark.parametrize("refusal", [Refusal(403, "AccessDenied"), Refusal(404, "NoSuchBucket"), Refusal(507, "507")])
def test_what_a_person_must_mend_ends_the_start_at_once(serve, waits, refusal):
    with pytest.raises(StoreError):
        open_at_start(serve(lambda asked: refusal), 60)
    assert waits == []


def test_patience_at_the_start_ends(serve, waits):
    with pytest.raises(StoreError, match="cannot write"):
        open_at_start(serve(lambda asked: Refusal(503, "SlowDown")), 2)
    assert waits[:2] == [0.5, 1.0]
    assert sum(waits) <= 2


def test_a_name_that_does_not_resolve_is_called_that(waits):
    open_it = partial(open_store, "s3://bkt", s3_endpoint_url="http://no-such-host.invalid:9000")
    with pytest.raises(StoreError) as caught:
        open_it().check()
    assert "does not resolve" in caught.value.why


def test_a_full_service_is_a_full_store(serve):
    with pytest.raises(StoreFullError):
        store_at(serve(lambda asked: Refusal(507, "InsufficientStorage"))).check()
