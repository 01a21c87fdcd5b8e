"""The signing key of a fleet: one key signs all orders, and the ledger holds its public half.

A feed with another key would send orders that workers drop. Therefore a machine that lacks the right key is refused
before it sends anything. An embedded broker belongs to one user and needs no signatures.
"""

from __future__ import annotations

from pathlib import Path

from catalog.errors import SettingsError
from catalog.messages import now_ms
from catalog.orders import OrderSigner, read_signer, write_new_signer
from catalog.settings import Settings
from orchestrator.control.admission import OrderProof
from orchestrator.ledger import Ledger, logins


def open_order_proof(ledger: Ledger, settings: Settings) -> OrderProof | None:
    """The key that signs this fleet's orders; None where none are signed. Raises SettingsError in words."""
    if settings.embedded:
        return None
    with ledger.read() as connection:
        announced = logins.newest_order_key(connection)
    path = settings.signing_key
    if not path.exists() and settings.signing_file is None:
        if announced is None:
            return None
        raise SettingsError(
            "this fleet's orders are signed, and this machine has no signing key",
            why=f"workers drop orders without a signature; there is no file {path}",
            fix="copy signing.key from the home of the machine where `tunemill worker-login new` made it, or set "
            "TUNEMILL_SIGNING_FILE to its path",
        )
    signer = read_signer(path)
    if announced is None:
        return _announce(ledger, signer)
    if announced.public_key != signer.public_key:
        raise SettingsError(
            "this fleet's orders are signed with another key than this machine's",
            why=f"the ledger names {announced.public_key}, and {path} is of {signer.public_key}",
            fix="copy signing.key from the machine that feeds the fleet; after a change of keys, to every machine",
        )
    return OrderProof(signer, announced.made_at_ms)


def ensure_order_key(ledger: Ledger, settings: Settings) -> OrderSigner:
    """The fleet's key, made now if there is none. Raises SettingsError where it is on another machine."""
    with ledger.read() as connection:
        announced = logins.newest_order_key(connection)
    if announced is None and settings.signing_file is None and not settings.signing_key.exists():
        return _announce(ledger, write_new_signer(settings.signing_key)).signer
    proof = open_order_proof(ledger, settings)
    if proof is None:
        raise SettingsError(
            "an embedded broker has no logins",
            why="an embedded broker serves one user on one machine",
            fix="set TUNEMILL_BROKER_URL to the fleet's broker",
        )
    return proof.signer


def change_order_key(ledger: Ledger, settings: Settings, new_key: Path) -> OrderSigner:
    """Sign with the key in the file `new_key` from now on; the file takes the place of the key before it, which stays
    beside it. Workers must trust the new one already.
    """
    signer, path = read_signer(new_key), settings.signing_key
    if path.exists():
        path.rename(path.with_name(f"{path.name}.until-{now_ms()}"))
    new_key.rename(path)
    return _announce(ledger, signer).signer


def _announce(ledger: Ledger, signer: OrderSigner) -> OrderProof:
    at_ms = now_ms()
    with ledger.write() as connection:
        logins.write_order_key(connection, signer.public_key, at_ms)
    return OrderProof(signer, at_ms)
