"""The key of a cluster here: a new one each time, for all that speak with it, in memory."""

import pickle
from pathlib import Path

from data.cluster import secret
from tests.builders import run_python

STARTED = """
from data.cluster import client

def loaded():
    from tornado import netutil

    return netutil._client_ssl_defaults.cache_info().misses

if __name__ == "__main__":
    client.prepare([])
    with client.connect(1, None) as connected:
        # The first result is fetched from the worker, which accepts a stream for that.
        print([connected.submit(loaded, pure=False).result() for _ in range(2)], loaded())
"""


def test_neither_driver_nor_worker_loads_the_certificates_of_the_system(tmp_path: Path) -> None:
    script = tmp_path / "started.py"
    script.write_text(STARTED)
    assert run_python(str(script)).stdout.split() == ["[0,", "0]", "0"]


def test_every_key_is_another_one() -> None:
    assert secret.make().tls_client_key != secret.make().tls_client_key


def test_all_roles_have_the_same_key_and_speak_by_it_alone() -> None:
    key = secret.make()
    assert key.require_encryption
    assert key.tls_client_key == key.tls_worker_key == key.tls_scheduler_key
    assert key.tls_ca_file == key.tls_client_cert == key.tls_worker_cert == key.tls_scheduler_cert
    assert "BEGIN CERTIFICATE" in key.tls_ca_file
    assert key.get_connection_args("worker")["ssl_context"].cert_store_stats()["x509_ca"] == 0


def test_a_role_takes_one_context_for_all_connections_and_keys_have_others() -> None:
    key, other = secret.make(), secret.make()
    used = [each.get_connection_args("worker")["ssl_context"] for each in (key, key, other)]
    assert used[0] is used[1] is not used[2]
    assert key.get_listen_args("worker")["ssl_context"] is not used[0]
    assert pickle.loads(pickle.dumps(key)).tls_client_key == key.tls_client_key
