"""Errors: one line each, the fitting built-in, alive after pickling."""

import inspect
import pickle

import pytest

from data import errors
from data.errors import CatalogueError

EVERY = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, CatalogueError)
]


def test_there_are_errors_to_test() -> None:
    assert len(EVERY) > 8


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_tells_where_expected_found_and_mend_in_one_line(
    kind: type[CatalogueError],
) -> None:
    assert str(kind("a.json", "JSON lines", "none", "fetch it")) == (
        "a.json: expected JSON lines, found none; fetch it"
    )
    assert str(kind("a.json", "JSON lines", "none")) == "a.json: expected JSON lines, found none"


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("told", [("a", "b", "c"), ("a", "b", "c", "d")])
def test_an_error_survives_pickling(kind: type[CatalogueError], told: tuple[str, ...]) -> None:
    error = pickle.loads(pickle.dumps(kind(*told)))
    assert type(error) is kind
    assert str(error) == str(kind(*told))


@pytest.mark.parametrize("kind", [each for each in EVERY if each is not CatalogueError])
def test_an_error_is_also_the_fitting_built_in(kind: type[CatalogueError]) -> None:
    kinds = ValueError | TypeError | ArithmeticError | ImportError | RuntimeError
    assert issubclass(kind, kinds)


def test_exit_codes_are_those_of_the_design() -> None:
    codes = {kind: kind.exit_code for kind in EVERY if kind.exit_code != 1}
    assert codes == {errors.ConfigError: 2, errors.GateError: 3}
