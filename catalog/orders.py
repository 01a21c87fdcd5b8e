"""Signed orders: a worker renders only takes that the control side has ordered, and reports only takes it was given.

An order carries two proofs beside the take. The signature (Ed25519) proves to a worker that the control side wrote the
order. The receipt (a MAC under a key that only the control side has) returns with the worker's report; it proves to the
control side that the reporter was given this order, and when the order was sent. The keys of both proofs come from one
file.
"""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from catalog.errors import SettingsError
from catalog.forms import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_RECEIPT_PATTERN: Final = r"^([0-9a-f]{1,12}\.[A-Za-z0-9_-]{22})?$"
_MAC_BYTES: Final = 16
_SIGNED: Final = b"tunemill order 1\0"  # these keys sign nothing but orders
_RECEIPTS: Final = b"tunemill receipts 1"

Receipt = Annotated[str, Field(pattern=_RECEIPT_PATTERN)]  # "<instant of sending in ms, hex>.<MAC, base64>", or ""


class OrderSigner:
    """The control side's keys: of the signatures that workers check, and of the receipts that they bring back."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._mac_key = hmac.digest(private_key.private_bytes_raw(), _RECEIPTS, sha256)
        self.public_key = b64encode(private_key.public_key().public_bytes_raw()).decode()

    def sign(self, queue: str, message: Mapping[str, Any], receipt: str) -> str:
        """The signature of an order for `queue`, in base64."""
        return b64encode(self._private_key.sign(_signed_bytes(queue, message, receipt))).decode()

    def receipt_of(self, take_id: str, sent_at_ms: int) -> str:
        """The receipt of the order for that take which is sent at that instant."""
        instant = f"{sent_at_ms:x}"
        return f"{instant}.{self._mac(take_id, instant)}"

    def sent_at_ms(self, receipt: str, take_id: str) -> int | None:
        """The instant at which the order of this receipt was sent; None when it is no receipt for this take."""
        instant, _, mac = receipt.partition(".")
        expected = self._mac(take_id, instant)
        if not hmac.compare_digest(mac.encode("utf-8", "replace"), expected.encode()):
            return None
        return int(instant, 16)

    def _mac(self, take_id: str, instant: str) -> str:
        told = f"{take_id}\0{instant}".encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._mac_key, told, sha256)[:_MAC_BYTES]
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


class OrderVerifier:
    """The public keys that a worker trusts; there are two while the control side changes its key."""

    def __init__(self, public_keys: Sequence[str]) -> None:
        self._keys = [_public_key(text) for text in public_keys]

    def is_signed(self, queue: str, message: Any, receipt: Any, signature: Any) -> bool:
        """True when one of the keys has signed this order for `queue`; every argument may be a stranger's."""
        if not isinstance(message, dict) or not isinstance(receipt, str) or not isinstance(signature, str):
            return False
        try:
            told, signed = _signed_bytes(queue, message, receipt), b64decode(signature, validate=True)
        except (ValueError, RecursionError):  # no base64, or a message that no JSON can hold
            return False
        return any(_verifies(key, signed, told) for key in self._keys)


def _verifies(key: Ed25519PublicKey, signature: bytes, told: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, told)
    except InvalidSignature:
        return False
    return True


def _signed_bytes(queue: str, message: Mapping[str, Any], receipt: str) -> bytes:
    return _SIGNED + canonical_json({"queue": queue, "receipt": receipt, "message": message})


def _public_key(text: str) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(b64decode(text, validate=True))


def parse_public_keys(text: str) -> list[str]:
    """The public keys of a list with commas. Raises ValueError for a text that is no public key."""
    keys = [part.strip() for part in text.split(",") if part.strip()]
    for key in keys:
        try:
            _public_key(key)
        except ValueError:
            raise ValueError("it must be public keys of 44 characters as `tunemill worker-login new` says") from None
    if not keys:
        raise ValueError("it names no key")
    return keys


def read_signer(path: Path) -> OrderSigner:
    """The signer whose private key is in the file `path` (PEM). Raises SettingsError in words."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from None
    except (ValueError, TypeError):
        raise _unusable(path, "it holds no private key in PEM, or one with a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "its key is not of the kind Ed25519")
    return OrderSigner(key)


def write_new_signer(path: Path) -> OrderSigner:
    """A new key, written to `path` for its owner alone. Raises FileExistsError rather than replace one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return OrderSigner(key)


def _unusable(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"the key that signs orders cannot be read from {path}",
        why=why,
        fix="copy the file from the machine where `tunemill worker-login new` made it, and let this user read it",
    )
