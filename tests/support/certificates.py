"""A certificate authority for tests, and the certificate of a server on this machine."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Papers(NamedTuple):
    """Files: who vouches, and what the server shows."""

    authority: Path
    certificate: Path
    key: Path


def write_papers(folder: Path, host: str = "127.0.0.1") -> Papers:
    """Make an authority that vouches for the server at `host`, an IP address."""
    folder.mkdir(parents=True, exist_ok=True)
    papers = Papers(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = _name("Tunemill tests")
    authority = _signed(name, name, authority_key.public_key(), authority_key, x509.BasicConstraints(True, None))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    server = _signed(_name("broker"), name, server_key.public_key(), authority_key, address)
    papers.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    papers.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    papers.key.write_bytes(server_key.private_bytes(*private))
    return papers


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )
    return builder.sign(signer, hashes.SHA256())
