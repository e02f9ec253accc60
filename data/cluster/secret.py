"""The key that a cluster of this machine's own works with; it stays in memory."""

import functools
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Security

_NAME = "dask-internal"
_LASTS = timedelta(days=365)


def trust_no_store() -> None:
    """Keep tornado from loading the system's certificates, which takes 36 ms in each process.

    It makes a context of them for a stream that comes without one, as those that a server accepts
    do, and never asks it: they are encrypted already. This one trusts nobody.
    """
    from tornado import iostream

    make_context = functools.cache(lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    iostream._client_ssl_defaults = make_context  # type: ignore[attr-defined]


def make() -> "Security":
    """Make a key with its own certificate, as ``Security.temporary`` does.

    On a curve (P-256): that makes one of RSA, which takes 25 to 100 ms of each start.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from data.cluster.key import Key

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _LASTS)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    roles = ("client", "scheduler", "worker")
    files = {f"tls_{role}_key": private for role in roles}
    files |= {f"tls_{role}_cert": public for role in roles}
    return Key(require_encryption=True, tls_ca_file=public, **files)
