"""Names that a user types."""

import pytest

from jaxdiff.names import load, nearest, unknown


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("dsp", ["tds", "dps", "mcg"], "dps"),
        ("Faces64", ["faces64"], "faces64"),
        ("gausian_blur", ["motion_blur", "gaussian_blur"], "gaussian_blur"),
        ("xyz", ["dps"], ""),
        ("dps", [], ""),
    ],
)
def test_the_nearest_name(name, known, expected):
    assert nearest(name, known) == expected


def test_an_unknown_name_lists_the_known():
    assert str(unknown("method", "dsp", {"dps", "tds"})) == (
        "unknown method 'dsp'; choose one of dps, tds. Did you mean 'dps'?"
    )


@pytest.mark.parametrize("path", ["no_such_module:f", "math:nothing", ":pi", "math:", "a b:c"])
def test_what_cannot_be_loaded_is_named(path):
    assert load("math:pi") > 3
    with pytest.raises(ValueError, match=r"PYTHONPATH|has no"):
        load(path)
