"""The key of a cluster here: a new one each time, for all that speak with it, in memory."""

from data.cluster import secret


def test_every_key_is_another_one() -> None:
    assert secret.make().tls_client_key != secret.make().tls_client_key


def test_all_roles_have_the_same_key_and_speak_by_it_alone() -> None:
    key = secret.make()
    assert key.require_encryption
    assert key.tls_client_key == key.tls_worker_key == key.tls_scheduler_key
    assert key.tls_ca_file == key.tls_client_cert == key.tls_worker_cert == key.tls_scheduler_cert
    assert "BEGIN CERTIFICATE" in key.tls_ca_file
    assert key.get_connection_args("worker")["ssl_context"].cert_store_stats()["x509_ca"] == 0
