"""One suite of promises for every store: a folder, and a bucket behind a real HTTP server."""

import base64
import errno
import hashlib
import io
import logging
import os
import socket
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from catalog.errors import StoreError, StoreFullError
from catalog.store import ObjectInfo, open_store, s3_wire
from catalog.store import folder as folder_module
from catalog.store import s3 as s3_module
from catalog.store.folder import FolderStore
from tests.support.fakes import MemoryStore

BUCKET = "tunemill-music"
AUDIO = b"fLaC" + bytes(range(256)) * 300
SECRET = "wJalr-secret-of-the-test"


def sha(body):
    return hashlib.sha256(body).hexdigest()


def put(store, key, body=AUDIO):
    store.put(key, body, content_type="audio/flac", sha256=sha(body))


def tell_server(url, what, body=b""):
    request = urllib.request.Request(f"{url}/moto-api/{what}", body, {"Content-Type": "text/plain"}, method="POST")  # noqa: S310
    urllib.request.urlopen(request)  # noqa: S310


@pytest.fixture(scope="module")
def s3_url():
    """A server that speaks S3, on a free port of loopback."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """Credentials of our own, whatever this machine has."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def bucket(s3_url, aws):
    """A fresh bucket, through a client that is not the one under test."""
    client = boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1")
    tell_server(s3_url, "reset")
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def s3_store(bucket, s3_url):
    return open_store(f"s3://{BUCKET}/team/music", s3_endpoint_url=s3_url)


@pytest.fixture
def folder_store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def memory_store():
    return MemoryStore()


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request):
    return request.getfixturevalue(f"{request.param}_store")


# Promises of every store


def test_what_is_put_is_found(store):
    put(store, "spa/audio/thermal/ambient/ab12.flac")
    assert store.find("spa/audio/thermal/ambient/ab12.flac") == AUDIO


def test_an_absent_object_is_none(store):
    assert store.find("spa/takes/absent.json") is None
    put(store, "spa/takes")
    assert store.find("spa/takes/absent.json") is None


def test_put_replaces(store):
    put(store, "a", b"first")
    put(store, "a", b"second")
    assert store.find("a") == b"second"


def test_an_empty_object_is_an_object(store):
    assert store.put_if_absent("empty", b"", content_type="text/plain")
    assert store.find("empty") == b""


def test_a_file_of_several_parts_comes_back_in_chunks(store, tmp_path):
    body = os.urandom(9 * 1024 * 1024 + 1)  # S3's client sends parts of 8 MiB
    (tmp_path / "large").write_bytes(body)
    store.put_file("tunemill.artefacts/weights/large", tmp_path / "large", content_type="application/octet-stream")
    received = io.BytesIO()
    assert store.read_into("tunemill.artefacts/weights/large", received)
    assert received.getvalue() == body
    assert store.stat("tunemill.artefacts/weights/large").size == len(body)
    assert store.sha256_of("tunemill.artefacts/weights/large") == sha(body)


def test_of_an_absent_object_nothing_is_read(store):
    assert not store.read_into("tunemill.artefacts/weights/absent", io.BytesIO())


def test_a_wrong_checksum_writes_nothing(store):
    with pytest.raises(StoreError, match="was not written"):
        store.put("a.flac", AUDIO, content_type="audio/flac", sha256=sha(b"other"))
    assert store.find("a.flac") is None


def test_the_first_of_two_stays(store):
    assert store.put_if_absent("spa/takes/1.json", b"winner", content_type="application/json")
    assert not store.put_if_absent("spa/takes/1.json", b"loser", content_type="application/json")
    assert store.find("spa/takes/1.json") == b"winner"


def test_of_eight_racing_threads_exactly_one_wins(store):
    for race in range(10):
        start = threading.Barrier(8)

        def write(number, race=race, start=start):
            start.wait()
            return store.put_if_absent(f"takes/{race}.json", b"%d" % number * 5000, content_type="application/json")

        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(write, range(8)))
        assert won.count(True) == 1
        assert store.find(f"takes/{race}.json") == b"%d" % won.index(True) * 5000


def test_eight_threads_write_and_read_at_once(store):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: put(store, f"audio/{number}.flac", b"%d" % number), range(40)))
        read = list(threads.map(lambda number: store.find(f"audio/{number}.flac"), range(40)))
    assert read == [b"%d" % number for number in range(40)]


def test_a_listing_is_complete_and_in_key_order(store):
    keys = ["a-b", "a.json", "a/b", "a/b-c/d", "a/b.json", "a0", "b/c/d/e", "z"]
    for key in reversed(keys):
        put(store, key, key.encode())
    assert [info[:2] for info in store.list("")] == [(key, len(key)) for key in sorted(keys)]
    assert [info.key for info in store.list("a/")] == ["a/b", "a/b-c/d", "a/b.json"] != sorted(keys)
    assert [info.key for info in store.list("a/b")] == ["a/b", "a/b-c/d", "a/b.json"]
    assert list(store.list("nothing/here/")) == []


def test_an_untouched_store_lists_nothing(store):
    assert list(store.list("")) == []


def test_a_deleted_object_is_gone_and_deleting_twice_is_nothing(store):
    put(store, "a/b")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    assert store.find("a/b") is None


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/.hidden", "A/b", "a b", "a" * 1025, "a\n"]
)
def test_a_key_that_is_none_is_refused_everywhere(store, key):
    for action in (
        lambda: put(store, key),
        lambda: store.put_if_absent(key, b"", content_type="text/plain"),
        lambda: store.find(key),
        lambda: store.delete(key),
        lambda: store.locate(key),
    ):
        with pytest.raises(StoreError, match="not allowed"):
            action()


def test_a_listing_does_not_leave_the_store(store):
    with pytest.raises(StoreError, match="not allowed"):
        list(store.list("../"))


def test_an_object_is_described_without_its_bytes(store):
    before_ms = time.time() * 1000
    put(store, "a/b.flac")
    found = store.stat("a/b.flac")
    assert (found.key, found.size) == ("a/b.flac", len(AUDIO))
    assert found.sha256 in (sha(AUDIO), None)
    assert before_ms - 2_000 < found.modified_ms < before_ms + 60_000  # S3 tells whole seconds
    assert list(store.list("")) == [found._replace(sha256=None)]
    assert store.sha256_of("a/b.flac") == sha(AUDIO)
    assert store.sha256_of("a/absent.flac") is None
    assert store.sha256_of("a/b.flac/c") is None
    assert store.stat("a/absent.flac") is None
    assert store.stat("a/b.flac/c") is None


def test_a_store_in_order_has_nothing_to_sweep_up(store):
    put(store, "a/b.flac")
    assert list(store.sweep(10**15)) == []
    assert store.find("a/b.flac") == AUDIO


def test_the_check_proves_the_store_and_leaves_nothing(store):
    store.check()
    assert list(store.list("")) == []


# A folder's own


def test_a_folder_says_where_its_objects_lie(folder_store, tmp_path):
    put(folder_store, "a/b.flac")
    assert Path(folder_store.locate("a/b.flac")).read_bytes() == AUDIO
    assert folder_store.locate("a/b.flac") == str(tmp_path / "store" / "a" / "b.flac")


def test_other_files_in_the_folder_are_not_listed(folder_store, tmp_path):
    put(folder_store, "a/b.flac")
    for name in (".DS_Store", "README.md", "a/.0123.part"):
        (tmp_path / "store" / name).write_text("not ours")
    assert [info.key for info in folder_store.list("")] == ["a/b.flac"]


def test_new_folders_survive_a_power_cut_as_their_objects_do(folder_store, tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(folder_module, "_flush_folder", flushed.append)
    root = tmp_path / "store"
    put(folder_store, "a/b/c.flac")
    assert flushed == [tmp_path, root, root / "a", root / "a" / "b"]
    put(folder_store, "a/b/d.flac")
    assert flushed[4:] == [root / "a" / "b"]


def test_what_a_killed_writer_left_is_swept_up_when_it_is_a_day_old(folder_store, tmp_path):
    put(folder_store, "a/b.flac")
    old, young, strange = (
        tmp_path / "store" / "a" / name for name in (f".{'0' * 32}.part", f".{'1' * 32}.part", ".x.part")
    )
    for path in (old, young, strange):
        path.write_bytes(b"half of it")
    for path in (old, strange, Path(folder_store.locate("a/b.flac"))):
        os.utime(path, (0, 0))
    folder_store.check()
    assert not old.exists()
    assert young.exists()
    assert strange.exists()
    assert folder_store.find("a/b.flac") == AUDIO


def test_a_sweep_names_what_it_removes_and_removes_nothing_when_told_so(folder_store, tmp_path):
    put(folder_store, "a/b.flac")
    left = tmp_path / "store" / "a" / f".{'0' * 32}.part"
    left.write_bytes(b"half of it")
    os.utime(left, (5, 5))
    expected = [ObjectInfo(f"a/{left.name}", 10, 5_000)]
    assert folder_store.sweep(5_000) == []
    assert folder_store.sweep(5_001, remove=False) == expected
    assert folder_store.sweep(5_001) == expected
    assert not left.exists()


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_dies_leaves_neither_object_nor_rest(folder_store, tmp_path, monkeypatch, moment):
    put(folder_store, "a", b"before")

    def die(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[moment], die)
    with pytest.raises(StoreError, match="cannot write a") as caught:
        put(folder_store, "a", b"after")
    assert caught.value.why == "Input/output error"
    monkeypatch.undo()
    assert folder_store.find("a") == b"before"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_in_words(folder_store, monkeypatch, code):
    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFullError, match="cannot write a") as caught:
        put(folder_store, "a")
    assert "free some space" in caught.value.fix


def test_a_disk_that_is_really_full_takes_the_next_object_after_some_space_was_freed(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        store = FolderStore(tmp_path)
        put(store, "a/1.flac")
        put(store, "a/2.flac")
        with pytest.raises(StoreFullError) as caught:
            put(store, "a/3.flac", AUDIO * 2)
        assert caught.value.exit_code == 32
        assert [info.key for info in store.list("")] == ["a/1.flac", "a/2.flac"]
        assert [path.name for path in (tmp_path / "a").iterdir() if path.name.startswith(".")] == []
        store.delete("a/1.flac")
        put(store, "a/4.flac")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root is refused nothing, so the refusal is made here
    with pytest.raises(StoreError, match="cannot write") as caught:
        FolderStore(tmp_path / "store").check()
    assert caught.value.why == "Permission denied"
    assert "TUNEMILL_STORE_URL" in caught.value.fix


def test_a_file_in_the_folders_place_is_said_in_words(tmp_path):
    (tmp_path / "store").write_text("I am a file")
    with pytest.raises(StoreError) as caught:
        FolderStore(tmp_path / "store").check()
    assert "a file stands where a folder is needed" in caught.value.fix


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    store = FolderStore(tmp_path / "store")
    put(store, "a")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("not for you")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    for action in (
        lambda: store.find("link/secret"),
        lambda: put(store, "link/new"),
        lambda: store.delete("link/secret"),
    ):
        with pytest.raises(StoreError, match="not in the store"):
            action()
    assert [info.key for info in store.list("")] == ["a"]
    assert os.listdir(tmp_path / "outside") == ["secret"]  # noqa: PTH208


def test_a_folder_behind_a_link_is_a_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    put(FolderStore(tmp_path / "link"), "a/b")
    assert (tmp_path / "real" / "a" / "b").read_bytes() == AUDIO


def test_a_file_system_without_hard_links_still_has_one_winner(folder_store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    test_of_eight_racing_threads_exactly_one_wins(folder_store)
    assert len(list(folder_store.list(""))) == 10


# A bucket's own


def test_objects_carry_their_content_type_and_checksum(s3_store, bucket):
    put(s3_store, "a/b.flac")
    s3_store.put_if_absent("a/b.json", b"{}", content_type="application/json")
    head = bucket.head_object(Bucket=BUCKET, Key="team/music/a/b.flac", ChecksumMode="ENABLED")
    assert head["ContentType"] == "audio/flac"
    assert head["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(AUDIO).digest()).decode()
    assert s3_store.stat("a/b.flac").sha256 == sha(AUDIO)
    bucket.put_object(Bucket=BUCKET, Key="team/music/a/other.flac", Body=AUDIO)  # by a program that sends none
    assert s3_store.stat("a/other.flac")[:2] == ("a/other.flac", len(AUDIO))
    assert bucket.head_object(Bucket=BUCKET, Key="team/music/a/b.json")["ContentType"] == "application/json"
    assert s3_store.locate("a/b.flac") == f"s3://{BUCKET}/team/music/a/b.flac"


def test_a_store_sees_only_its_prefix(s3_store, bucket, s3_url):
    put(s3_store, "a")
    bucket.put_object(Bucket=BUCKET, Key="team/musical/b", Body=b"")
    bucket.put_object(Bucket=BUCKET, Key="team/music/", Body=b"")  # what consoles make of a "folder"
    assert [info.key for info in s3_store.list("")] == ["a"]
    whole = open_store(f"s3://{BUCKET}", s3_endpoint_url=s3_url)
    assert [info.key for info in whole.list("")] == ["team/music/a", "team/musical/b"]


def test_a_listing_goes_on_past_the_first_page(s3_store, bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    keys = [f"takes/{number:04d}.json" for number in range(35)]
    for key in keys:
        bucket.put_object(Bucket=BUCKET, Key=f"team/music/{key}", Body=b"{}")
    assert bucket.list_objects_v2(Bucket=BUCKET)["IsTruncated"]
    assert [info.key for info in s3_store.list("takes/")] == keys


def test_a_bucket_that_is_not_there_is_said_in_words(bucket, s3_url):
    store = open_store("s3://no-such-bucket-here", s3_endpoint_url=s3_url)
    for action in (store.check, lambda: store.find("a"), lambda: list(store.list("")), lambda: store.delete("a")):
        with pytest.raises(StoreError, match="no-such-bucket-here") as caught:
            action()
        assert "no such bucket" in caught.value.why


def test_a_denied_bucket_is_said_in_words_without_secrets(bucket, s3_url, monkeypatch):
    iam = boto3.client("iam", endpoint_url=s3_url, region_name="us-east-1")
    iam.create_user(UserName="worker")
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    store = open_store(f"s3://{BUCKET}", s3_endpoint_url=s3_url)
    tell_server(s3_url, "reset-auth", b"0")  # from now on, rights are asked for
    try:
        for action, verb in (
            (store.check, "write"),
            (lambda: store.find("a"), "read"),
            (lambda: list(store.list("")), "list"),
        ):
            with pytest.raises(StoreError, match=f"bucket {BUCKET}: cannot {verb}") as caught:
                action()
            assert "access denied" in caught.value.why
            assert "s3:PutObject" in caught.value.fix
            assert key["AccessKeyId"] not in str(caught.value)
            assert key["SecretAccessKey"] not in str(caught.value)
    finally:
        tell_server(s3_url, "reset-auth", b"inf")


def test_missing_credentials_are_said_in_words(bucket, s3_url, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=f"bucket {BUCKET}: cannot write") as caught:
        open_store(f"s3://{BUCKET}", s3_endpoint_url=s3_url).check()
    assert caught.value.why == "there are no complete credentials"
    assert "AWS_ACCESS_KEY_ID" in caught.value.fix


def test_an_endpoint_that_does_not_answer_is_said_in_words_and_worth_waiting_for(aws, monkeypatch):
    monkeypatch.setattr(s3_wire, "ATTEMPTS", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreError, match="cannot write") as caught:
            open_store(f"s3://{BUCKET}", s3_endpoint_url=url).check()
    assert "does not answer" in caught.value.why
    assert not caught.value.needs_person


def test_a_service_that_ignores_conditions_is_found_out_by_the_check(s3_store, monkeypatch, caplog):
    client = s3_store._wire._clients[s3_store._wire._way]
    put_object = client.put_object

    def put_anyway(**arguments):
        arguments.pop("IfNoneMatch", None)
        return put_object(**arguments)

    monkeypatch.setattr(client, "put_object", put_anyway)
    s3_store.check()
    assert "ignores conditional writes" in caplog.text
    test_the_first_of_two_stays(s3_store)


class _Answers:
    """Stands before a real client and answers the first conditional writes with errors."""

    def __init__(self, client, codes):
        self._client, self._codes = client, codes

    def __getattr__(self, name):
        return getattr(self._client, name)

    def put_object(self, **arguments):
        if "IfNoneMatch" in arguments and self._codes:
            raise ClientError({"Error": {"Code": self._codes.pop(0)}}, "PutObject")
        return self._client.put_object(**arguments)


def answer_first(store, codes):
    """Let the service answer the first conditional writes with these codes."""
    clients = store._wire._clients
    clients.update({way: _Answers(client, codes) for way, client in clients.items()})


def test_a_service_that_refuses_conditions_is_looked_at_first(s3_store, caplog):
    answer_first(s3_store, ["NotImplemented"] * 9)
    test_the_first_of_two_stays(s3_store)
    assert "refuses conditional writes" in caplog.text


def test_a_conflict_is_tried_again(s3_store, monkeypatch):
    answer_first(s3_store, ["ConditionalRequestConflict"] * 2)
    assert s3_store.put_if_absent("a", b"1", content_type="text/plain")
    assert s3_store.find("a") == b"1"


def test_endless_conflicts_are_said_in_words(s3_store, monkeypatch):
    answer_first(s3_store, ["ConditionalRequestConflict"] * 99)
    monkeypatch.setattr(s3_module.time, "sleep", lambda seconds: None)
    with pytest.raises(StoreError, match="could not be written"):
        s3_store.put_if_absent("a", b"1", content_type="text/plain")


def test_a_service_without_room_is_a_full_store(s3_store, monkeypatch):
    answer_first(s3_store, ["XMinioStorageFull"])
    with pytest.raises(StoreFullError):
        s3_store.put_if_absent("a", b"1", content_type="text/plain")
