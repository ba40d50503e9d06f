"""Build the site.

Run:     make docs                     (python -m docs.site [--out out/site] [--tutorials])
Shows:   out/site/index.html. Warnings are errors, and so is a link or a picture that leads nowhere.
Time:    one minute on two CPU cores; eight with --tutorials, which runs the six tutorials (kept until they change).
"""

import argparse
import os
import pathlib
import shutil
import sys

from docs.site import api, links, methods, operators, stage

GENERATED = (api.pages, methods.pages, operators.pages)


def main() -> int:
    """Put the pages together, run Sphinx on them, and follow every link of the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=stage.ROOT / "out" / "site")
    parser.add_argument("--tutorials", action="store_true", help="run the tutorials and show what they make")
    args = parser.parse_args()
    source = args.out.with_name(f"{args.out.name}-source")
    kept = source / "tutorials"  # what a tutorial made is good until the tutorial changes
    for old in source.glob("*"):
        if old != kept:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    source.mkdir(parents=True, exist_ok=True)
    stage.stage(source)
    for make in GENERATED:
        for name, content in make():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.environ["TUTORIALS"] = "1" if args.tutorials else "0"
    from sphinx.cmd.build import main as sphinx

    if failed := sphinx(["-W", "--keep-going", "-q", "-b", "html", str(source), str(args.out)]):
        return failed
    if broken := links.broken(args.out):
        print("\n".join(broken), file=sys.stderr)
        return 1
    print(f"{args.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
