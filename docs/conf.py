"""Sphinx's settings for the site; `make docs` builds it from what `docs/site` puts together."""

import os
import re

project = "jaxdiff"
author = "The jaxdiff authors"
copyright = "The jaxdiff authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["tutorials/source/*"]

html_theme = "furo"
html_title = "jaxdiff"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
templates_path = []

default_role = "code"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "config.cache"]

autodoc_typehints = "none"  # names say more than jaxtyping's long forms; the text has shapes and units
toc_object_entries_show_parents = "hide"
autodoc_preserve_defaults = True  # as the source writes them: the value of os.environ would tell of the machine
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": ["tutorials/source"],
    "gallery_dirs": ["tutorials"],
    "filename_pattern": r"\.py$",
    "plot_gallery": os.environ.get("TUTORIALS", "0") == "1",
    "parallel": 2,  # tutorials at a time: compiling, most of their time, keeps one core busy
    "abort_on_example_error": True,
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 0,
    "remove_config_comments": True,
    "write_computation_times": False,
    "notebook_extensions": set(),
}

LITERAL = re.compile(r"(``.+?``|`[^`]+`)")


def plain(line: str) -> str:
    """A line of a docstring as reStructuredText that shows it as it is: | * and a trailing _ mean themselves."""
    parts = LITERAL.split(line)
    for i in range(0, len(parts), 2):
        text = re.sub(r"([*|])", r"\\\1", parts[i])
        parts[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    return "".join(parts)


def escape(app, what, name, obj, options, lines) -> None:
    """Docstrings are plain text: only lists, indented blocks and `code` mean something in them."""
    del app, what, name, obj, options
    lines[:] = [plain(line) for line in lines]


def setup(app) -> None:
    """Escape before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", escape, priority=100)
