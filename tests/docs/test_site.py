"""The site has every page and every public name; its links lead somewhere."""

import inspect
import re

import pytest

from docs.site import api, links, methods, stage

PAGES = dict(api.pages())


@pytest.mark.parametrize("name", api.modules())
def test_each_public_name_has_an_entry(name):
    module = api.modules()[name]
    wanted = {each for each in module.__all__ if not inspect.ismodule(getattr(module, each))}
    documented = set(
        re.findall(rf"^\.\. (?:auto\w+|py:data):: {re.escape(name)}\.(\w+)$", PAGES[f"api/{name}.rst"], re.MULTILINE)
    )
    assert documented == wanted


def test_each_public_module_is_in_the_index():
    import jaxdiff as jd

    listed = set(re.findall(r"^   (jaxdiff[.\w]*)$", PAGES["api/index.rst"], re.MULTILINE))
    assert {"jaxdiff"} | {f"jaxdiff.{name}" for name in jd.__all__ if inspect.ismodule(getattr(jd, name))} <= listed


def test_each_method_has_a_page():
    from jaxdiff.samplers import METHODS, UNCONDITIONAL

    names = [name for name, _ in methods.pages()]
    assert set(names) == {"methods/index.md"} | {f"methods/{name}.md" for name in METHODS | UNCONDITIONAL}
    for name, text in methods.pages():
        assert "```text" in text or name in ("methods/index.md", "methods/ddim.md", "methods/ddpm.md"), name


def test_each_page_is_in_the_navigation():
    text = (stage.ROOT / "docs" / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^(?:.* <)?([\w/*]+)>?$", text, re.MULTILINE))
    for name in stage.names().values():
        page = name.removesuffix(".md")
        if name.endswith(".md") and page != "index":
            assert page in listed or (page.startswith("own_") and "own_*" in listed), (
                f"{name} is in no list of docs/index.md"
            )


def test_links_between_pages_hold():
    for path, name in stage.names().items():
        if name.endswith(".md"):
            stage.relinked((stage.ROOT / path).read_text("utf-8"), path)


def test_a_link_to_nothing_is_refused():
    with pytest.raises(ValueError, match="not there"):
        stage.relinked("[a](b.md)", "docs/faq.md")


def test_a_link_out_of_the_site_becomes_a_name():
    assert stage.relinked("[a](../LICENSE)", "docs/faq.md") == "`LICENSE`"
    assert stage.relinked("[a](../ARCHITECTURE.md#rooms)", "docs/faq.md") == "[a](architecture.md#rooms)"


def test_broken_links_of_built_pages_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">x</a><a href="#here">y</a><p id="here"><img src="//far.example/x.png">'
    )
    (tmp_path / "c.html").write_text('<a href="a.html#there">x</a><a href="https://example.org">z</a>')
    assert links.broken(tmp_path) == [
        "a.html loads //far.example/x.png from the network.",
        "a.html links to b.html, which is not there.",
        "c.html links to a.html#there, which has no such place.",
    ]
