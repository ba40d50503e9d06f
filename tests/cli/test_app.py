"""``jaxdiff app`` as its user meets it."""

import sys

import pytest


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_cannot_be_is_refused(jaxdiff, port):
    code, _, err = jaxdiff("app", "--port", port)
    assert (code, err) == (2, f"jaxdiff: --port {port} is not possible: choose between 1 and 65535.\n")


def test_without_gradio_the_extra_is_named(jaxdiff, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "jaxdiff.app.page", raising=False)
    code, _, err = jaxdiff("app")
    assert (code, err) == (
        2,
        "jaxdiff: the page needs the package gradio; install it with: pip install 'jaxdiff[app]'.\n",
    )
