"""A method is one file, one import, and one row of the contract's table."""

import inspect
import io
import pathlib
import tokenize

import pytest

import jaxdiff
from jaxdiff.samplers import METHODS, UNCONDITIONAL, Sampler, register

PACKAGE = pathlib.Path(jaxdiff.__file__).parent
OF_THE_STUDY = {"sdedit", "score_ald", "dps"}
"""The study compares these three by name."""


def files_that_name(word):
    """Files of the package whose code has the identifier; strings and comments do not count."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        if word in text and any(
            token.type == tokenize.NAME and token.string == word
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
        ):
            yield path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("name", sorted(set(METHODS) - OF_THE_STUDY))
def test_the_code_names_a_method_in_its_file_and_in_one_import(name):
    assert set(files_that_name(name)) == {f"samplers/_methods/{name}.py", "samplers/__init__.py"}


@pytest.mark.parametrize("method", [*METHODS.values(), *UNCONDITIONAL.values()], ids=lambda method: method.name)
def test_a_method_states_its_facts(method):
    made = method()
    assert isinstance(made, method.kind)
    assert method.kind.title != Sampler.title
    assert made.calls.forward >= 1
    assert set(method.kind.search) <= set(inspect.signature(method.make).parameters)
    assert bool(method.kind.search) == (method.name in METHODS)


def test_a_method_of_ones_own_is_entered_by_its_class():
    class Mine(Sampler):
        title = "mine"

    @register(Mine)
    def of_my_own():
        return Mine()

    try:
        assert METHODS["of_my_own"].kind is Mine
    finally:
        del METHODS["of_my_own"]
