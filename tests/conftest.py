"""Fixtures that all tests share: odd lines, the checkout, one small cluster, real records."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.builders import KEPT, REFUSED, ROOT

# A shell ignores Ctrl-C for what it starts in the background, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if not [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]:
    # Read as Triton is imported: its interpreter runs our kernels on a CPU.
    os.environ["TRITON_INTERPRET"] = "1"
# No clock decides, as machines and hours differ.
settings.register_profile(
    "house", deadline=None, derandomize=True, max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("house")
LONG = ("tests/test_tour.py", "tests/training/", "tests/contracts/", "tests/inference/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files, or one of two processors ends minutes after the other."""

    def place(item: pytest.Item) -> int:
        return next((n for n, path in enumerate(LONG) if item.nodeid.startswith(path)), len(LONG))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Spare garbage collections all that was imported: each run has two, a third of its time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Give it back, or libraries find at their end that it was never freed, and say so."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes one odd line with every one of them in turn."""
    if "refused_line" in metafunc.fixturenames:
        metafunc.parametrize("refused_line", REFUSED.values(), ids=REFUSED.keys())
    if "kept_line" in metafunc.fixturenames:
        metafunc.parametrize("kept_line", KEPT.values(), ids=KEPT.keys())


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of one running cluster, shared by the tests that do not start their own."""
    import dask
    from distributed import LocalCluster

    from data.cluster.client import SETTINGS

    # A silent worker is replaced within two minutes, before the test that waits for it fails.
    patience = {"distributed.scheduler.worker-ttl": "60s"}
    with dask.config.set(SETTINGS | patience):  # no longer: other clusters set it themselves
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        )
    with cluster:
        yield cluster.scheduler_address


@pytest.fixture
def real_records() -> Path:
    """The real records, where this machine has them."""
    path = os.environ.get("CATALOGUE_REAL_RECORDS", "")
    if not path or not Path(path).is_file():
        pytest.skip("CATALOGUE_REAL_RECORDS names no file: the real records are not to be shared")
    return Path(path)
