"""A key that makes one TLS context a role and process; Dask's makes one a connection, in 2 ms."""

import functools
import ssl

from distributed import Security


class Key(Security):  # type: ignore[misc]
    """Key, certificate and what else a connection needs; only ``secret`` makes one."""

    def _get_tls_context(self, tls: dict[str, str], purpose: ssl.Purpose) -> ssl.SSLContext:
        return _context(self, tuple(tls.items()), purpose)


@functools.cache
def _context(key: Key, tls: tuple[tuple[str, str], ...], purpose: ssl.Purpose) -> ssl.SSLContext:
    made: ssl.SSLContext = Security._get_tls_context(key, dict(tls), purpose)
    return made
