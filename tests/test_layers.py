"""Imports point down only: a room may use the rooms below it, never one above or beside it."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent / "jaxdiff"

LEVELS = (
    ("typing", "names", "assets", "hosts", "memory", "_summary", "progress"),
    ("numerics", "compilation_cache", "runtime", "profiling"),
    ("linalg", "_checks", "files"),
    ("schedules", "models", "operators", "metrics", "noise", "hub", "photos"),
    ("diffusion",),
    ("problems", "denoisers"),
    ("samplers",),
    ("network_calls",),
    ("tasks",),
    ("checkpoints", "engine", "export", "plots", "tables"),
    ("pages",),
    ("training",),
    ("evaluation", "testing"),
    ("bench", "study", "tune"),
    ("__init__",),
    ("app",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. A room imports from lower levels only, and from itself."""

ONLY = {"samplers": {"operators.base"}}
"""Of a lower room, the part that may be used: a method never names a concrete operator."""

FORBIDDEN = {"torch", "torchvision", "weights_convert", "deepinv", "tensorflow"}
ALLOWED = {"cli/convert.py": "weights_convert", "hub.py": "weights_convert"}
"""The files that are the doors to another package."""
HEAVY = {"matplotlib", "skimage", "grain", "orbax", "optax", "plotly"}
PAGE = {"gradio": "app/page.py"}
"""The library of the web page, which is an extra, and the one file that may know it."""
TERMINAL = {"rich", "argparse"}
"""Libraries of the command line."""

FILES = sorted(ROOT.rglob("*.py"))


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def level_of(room):
    levels = [i for i, rooms in enumerate(LEVELS) if room in rooms]
    assert levels, f"{room} has no level yet: say where it stands"
    return levels[0]


def imports(path, *, top_level=False):
    """Dotted names that a file imports; with ``top_level``, only those that importing the file runs."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults_of(path):
    room = room_of(path)
    for name in imports(path):
        top, _, target = name.partition(".")
        if top != "jaxdiff":
            continue
        other = target.partition(".")[0]
        if other == room:
            continue
        if not other or (not (ROOT / other).exists() and not (ROOT / f"{other}.py").exists()):
            other = "__init__"  # a public name of the package itself
        if level_of(other) >= level_of(room):
            yield f"{path.relative_to(ROOT)} imports {name}"
        for part in ONLY.get(room, ()):
            if other == part.partition(".")[0] and not target.startswith(part):
                yield f"{path.relative_to(ROOT)} imports {name}; of {other} it may use {part}"


def test_imports_point_down():
    faults = [fault for path in FILES for fault in faults_of(path)]
    assert not faults, "\n".join(faults)


def test_no_torch_and_heavy_libraries_only_inside_functions():
    faults = []
    for path in FILES:
        forbidden = FORBIDDEN - {ALLOWED.get(path.relative_to(ROOT).as_posix())}
        faults += [f"{path}: {name}" for name in imports(path) if name.split(".")[0] in forbidden]
        if room_of(path) != "training":
            faults += [f"{path}: {name}" for name in imports(path, top_level=True) if name.split(".")[0] in HEAVY]
    assert not faults, "\n".join(faults)


def test_only_one_file_knows_the_page_s_library():
    faults = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        for name in imports(path)
        if (place := PAGE.get(name.split(".")[0])) and place != path.relative_to(ROOT).as_posix()
    ]
    faults += [
        f"{path.relative_to(ROOT)} imports {name} before it is needed"
        for path in FILES
        for name in imports(path, top_level=True)
        if name.startswith("jaxdiff.app.page")
    ]
    assert not faults, "\n".join(faults)


def test_the_terminal_belongs_to_the_command_line():
    faults = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if room_of(path) not in {"cli", "progress"}
        for name in imports(path)
        if name.split(".")[0] in TERMINAL
    ]
    assert not faults, "\n".join(faults)


def test_methods_do_not_import_each_other():
    methods = "jaxdiff.samplers._methods."
    faults = [
        f"{path.name} imports {name}"
        for path in (ROOT / "samplers" / "_methods").glob("*.py")
        for name in imports(path)
        if name.startswith(methods)
    ]
    assert not faults, "\n".join(faults)
