"""Build the site.

Run:     make docs                     (python -m docs.site [--out out/site] [--tutorials] [--look])
Shows:   out/site/index.html. Warnings are errors, and so is a link or a picture that leads nowhere. With --look a browser
         opens every page, as wide as a telephone. An error, a page that is too wide, or a search in vain is one, too.
Time:    one minute on two CPU cores; eight with --tutorials, which runs the six tutorials (kept until they change).
"""

import argparse
import os
import pathlib
import sys

from docs.site import api, commands, links, look, methods, operators, stage

MADE = (stage.pages, api.pages, commands.pages, methods.pages, operators.pages)
KEPT = "tutorials"
"""What a tutorial has made is good until the tutorial changes."""


def put_together(source: pathlib.Path) -> None:
    """Write the pages that have changed, and remove those that are gone: Sphinx reads again what is new."""
    found = set()
    for make in MADE:
        for name, content in make():
            path, new = source / name, content if isinstance(content, bytes) else content.encode()
            found.add(path)
            if not path.exists() or path.read_bytes() != new:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(new)
    for path in [path for path in source.rglob("*") if path.is_file()]:
        if path not in found and path.relative_to(source).parts[0] != KEPT:
            path.unlink()


def main() -> int:
    """Put the pages together, run Sphinx on them, and follow every link of the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=stage.ROOT / "out" / "site")
    parser.add_argument("--tutorials", action="store_true", help="run the tutorials and show what they make")
    parser.add_argument("--look", action="store_true", help="open every page in Chromium")
    args = parser.parse_args()
    source = args.out.with_name(f"{args.out.name}-source")
    put_together(source)
    os.environ["TUTORIALS"] = "1" if args.tutorials else "0"
    from sphinx.cmd.build import main as sphinx

    if failed := sphinx(["-W", "--keep-going", "-q", "-b", "html", str(source), str(args.out)]):
        return failed
    wrong = links.broken(args.out)
    try:
        wrong += look.faults(args.out) if args.look else []
    except ValueError as missing:
        print(missing, file=sys.stderr)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    print(f"{args.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
