"""Imports point down only: a layer may use the ones below it, never one above or beside it."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "jaxdiff"

# A module may import what is named here, its own package, and nothing else of jaxdiff.
ALLOWED = {
    "typing": set(),
    "assets": set(),
    "numerics": {"typing"},
    "schedules": {"typing", "numerics"},
    "models": {"typing", "numerics"},
    "linalg": {"typing", "numerics"},
    "_checks": {"typing", "numerics"},
    "operators": {"typing", "numerics", "linalg", "_checks"},
    "metrics": {"typing", "numerics", "assets"},
    "noise": {"typing", "numerics"},
    "diffusion": {"typing", "numerics", "schedules"},
    "problems": {"typing", "numerics", "operators"},
    "denoisers": {"typing", "numerics", "schedules", "diffusion"},
    "samplers": {"typing", "numerics", "schedules", "diffusion", "problems", "denoisers", "operators.base"},
}
ALLOWED["files"] = {"typing", "numerics"}
ALLOWED["compilation_cache"] = {"assets"}
ALLOWED["hosts"] = set()
LOWER = set(ALLOWED) | {"operators"}
ALLOWED["checkpoints"] = LOWER
ALLOWED["engine"] = LOWER
ALLOWED["export"] = LOWER
ALLOWED["plots"] = LOWER
ALLOWED["training"] = LOWER | {"checkpoints", "plots"}
ALLOWED["experiments"] = LOWER | {"checkpoints", "engine", "export", "plots", "training", "__version__"}
ALLOWED["cli"] = ALLOWED["experiments"] | {"experiments", "compilation_cache", "hosts"}
ALLOWED["__main__"] = {"cli"}

FORBIDDEN = {"torch", "torchvision", "weights_convert", "deepinv", "tensorflow"}
HEAVY = {"matplotlib", "skimage", "grain", "orbax", "optax"}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imports(path, *, top_level=False):
    """Dotted names that a file imports; with ``top_level``, only those that importing the file runs."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own = module_of(path)
    assert own in ALLOWED, f"{own} has no layer yet: name what it may import"
    for name in imports(path):
        if name.split(".")[0] != "jaxdiff":
            continue
        target = name.removeprefix("jaxdiff.")
        allowed = any(target == a or target.startswith(f"{a}.") for a in ALLOWED[own] | {own})
        # "from jaxdiff import X" names a module or a public name of the package.
        assert allowed or (name == "jaxdiff" and own in ("experiments", "cli", "training")), f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_torch_and_heavy_libraries_only_inside_functions(path):
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN
    if module_of(path) != "training":
        assert not {name.split(".")[0] for name in imports(path, top_level=True)} & HEAVY


def test_methods_do_not_import_each_other():
    shared = {"base", "transitions", "loop"}
    methods = {
        "sdedit",
        "dps",
        "score_ald",
        "ddnm",
        "ddrm",
        "diffpir",
        "reddiff",
        "daps",
        "mmps",
        "pigdm",
        "repaint",
        "sitcom",
    }
    for path in (ROOT / "samplers").glob("*.py"):
        if path.stem in methods:
            used = {name.split(".")[2] for name in imports(path) if name.startswith("jaxdiff.samplers.")}
            assert not used & (methods - {path.stem}), path.name
            assert path.stem not in shared
