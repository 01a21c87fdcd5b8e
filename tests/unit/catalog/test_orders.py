"""Signed orders: nothing but what the control side wrote passes, and a receipt is good for one take and instant."""

from __future__ import annotations

import stat
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import SettingsError
from catalog.orders import OrderSigner, OrderVerifier, parse_public_keys, read_signer, write_new_signer
from tests.support.makers import a_message, a_take

SIGNER, ANOTHER = (OrderSigner(Ed25519PrivateKey.generate()) for _ in range(2))
MESSAGE = a_message(a_take()).model_dump(mode="json")
RECEIPT = SIGNER.receipt_of(a_take().id, 1_800_000_000_000)
SIGNATURE = SIGNER.sign("render.tone.4g", MESSAGE, RECEIPT)


def test_a_signed_order_passes_and_an_altered_one_does_not():
    verifier = OrderVerifier([SIGNER.public_key])
    assert verifier.is_signed("render.tone.4g", MESSAGE, RECEIPT, SIGNATURE)
    altered = {**MESSAGE, "run_id": "another"}
    assert not verifier.is_signed("render.tone.4g", altered, RECEIPT, SIGNATURE)
    assert not verifier.is_signed("render.tone.80g", MESSAGE, RECEIPT, SIGNATURE)
    assert not verifier.is_signed("render.tone.4g", MESSAGE, SIGNER.receipt_of(a_take().id, 5), SIGNATURE)
    assert not verifier.is_signed("render.tone.4g", MESSAGE, RECEIPT, ANOTHER.sign("render.tone.4g", MESSAGE, RECEIPT))


def test_while_the_key_changes_either_one_passes():
    verifier = OrderVerifier(parse_public_keys(f"{ANOTHER.public_key}, {SIGNER.public_key}"))
    for signer in (SIGNER, ANOTHER):
        assert verifier.is_signed("q", MESSAGE, RECEIPT, signer.sign("q", MESSAGE, RECEIPT))


@given(
    message=st.one_of(st.none(), st.text(), st.dictionaries(st.text(), st.floats() | st.text())),
    receipt=st.one_of(st.none(), st.text(), st.integers()),
    signature=st.one_of(st.none(), st.text(), st.binary(max_size=80).map(lambda raw: b64encode(raw).decode())),
)
def test_whatever_a_stranger_writes_is_merely_unsigned(message, receipt, signature):
    assert not OrderVerifier([SIGNER.public_key]).is_signed("q", message, receipt, signature)


def test_a_message_that_no_text_can_hold_is_merely_unsigned():
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert not OrderVerifier([SIGNER.public_key]).is_signed("q", deep, RECEIPT, SIGNATURE)


@given(take_id=st.text(), sent_at_ms=st.integers(0, 2**43))
def test_a_receipt_says_when_its_order_was_sent_and_is_no_other_takes(take_id, sent_at_ms):
    receipt = SIGNER.receipt_of(take_id, sent_at_ms)
    assert SIGNER.sent_at_ms(receipt, take_id) == sent_at_ms
    assert SIGNER.sent_at_ms(receipt, take_id + "0") is None
    assert ANOTHER.sent_at_ms(receipt, take_id) is None
    instant, _, mac = receipt.partition(".")
    assert SIGNER.sent_at_ms(f"{int(instant, 16) + 1:x}.{mac}", take_id) is None


@pytest.mark.parametrize("receipt", ["", ".", "zz", "0", "\ud800.x", "1.\u00e9", "-1.AAAAAAAAAAAAAAAAAAAAAA"])
def test_what_is_no_receipt_proves_nothing(receipt):
    assert SIGNER.sent_at_ms(receipt, "take") is None


def test_a_key_is_its_owners_alone_and_never_written_over(tmp_path):
    path = tmp_path / "new" / "signing.key"
    made = write_new_signer(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_signer(path).public_key == made.public_key
    with pytest.raises(FileExistsError):
        write_new_signer(path)


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_in_words(tmp_path, content):
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"cannot be read from .*signing\.key"):
        read_signer(path)
    with pytest.raises(SettingsError, match="No such file"):
        raise_with_why(tmp_path / "nowhere")


def raise_with_why(path):
    try:
        read_signer(path)
    except SettingsError as error:
        raise SettingsError(error.why) from None


@pytest.mark.parametrize("text", ["", " , ", "abc", "A" * 44, "A" * 43])
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(ValueError, match="key"):
        parse_public_keys(text)
