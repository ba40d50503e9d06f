"""``jaxdiff fid``: how far sets of pictures are from a reference."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from jaxdiff.cli.console import open_first, progress, say, show
from jaxdiff.cli.options import add_general, at_least_one, check_free
from jaxdiff.evaluation.sets import LEAST, distances, published_moments, set_features
from jaxdiff.files import check_folder, find_images, load_image, out_folder
from jaxdiff.metrics import inception_params
from jaxdiff.metrics.inception import Weights
from jaxdiff.tables import counted, rounded, write_rows

__all__ = ["ABOUT", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "FOLDER [FOLDER ...] --reference FOLDER [options]"
ABOUT = (
    "FID and KID of sets of pictures, restored or drawn, beside real ones. Lower is better. Needs the weights of Inception-v3, "
    "which jaxdiff convert inception makes."
)
EXAMPLES = (
    "jaxdiff fid out/samples --reference faces/",
    "jaxdiff fid runs/first/pictures/inpaint_box/*/s0 --reference faces/ --out out/fid.csv",
    "jaxdiff fid out/samples --reference ffhq-64x64.npz",
)
FEW = 2048
"""Below so many pictures a covariance of 2048 features is singular."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    group = parser.add_argument_group("what to compare")
    group.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="pictures of one set, searched below too"
    )
    group.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="real pictures, or an .npz file with mu and sigma of their features",
    )
    group = parser.add_argument_group("run")
    group.add_argument("--batch-size", type=int, default=16, help="pictures at a time (default 16)")
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, default=None, help="write the table as CSV, too")
    add_general(parser, seed=False, overwrite=True)


def run(args: argparse.Namespace) -> None:
    """Compute and print.

    Raises:
        ValueError: if pictures, weights or statistics are missing.
    """
    at_least_one(args, "batch_size")
    if args.out is not None:
        check_free(args.out, args.reference, overwrite=args.overwrite)
        check_folder(args.out.parent)
    params = inception_params()
    folders = list(dict.fromkeys(args.folders))
    sets = {folder: _listed(folder) for folder in folders}
    known = published_moments(args.reference) if args.reference.suffix == ".npz" else None
    if known is None:
        sets = {args.reference: _listed(args.reference), **sets}
    vectors = _vectors(sets, load_image(sets[folders[0]][0]).size, params, args.batch_size)
    reference = vectors[args.reference] if known is None else known
    rows = [
        {"folder": str(folder), "pictures": len(vectors[folder]), **distances(vectors[folder], reference)._asdict()}
        for folder in folders
    ]
    _show(args.reference, rows, min(map(len, vectors.values())))
    if args.out is not None:
        out_folder(args.out.parent)
        write_rows(args.out, rows)
        open_first(args.out)


def _vectors(
    sets: Mapping[Path, Sequence[Path]], size: tuple[int, int], params: Weights, batch_size: int
) -> dict[Path, np.ndarray]:
    """Features of each set, all at one size; says which pictures had another."""
    vectors = {}
    with progress() as bar:
        stages = {folder: bar(str(folder), len(paths)) for folder, paths in sets.items()}
        for folder, paths in sets.items():
            found = set_features(paths, size, params, batch_size=batch_size, report=stages[folder])
            vectors[folder] = found.vectors
            if found.fitted:
                of = counted(len(paths), "picture")
                say(f"{folder}: {found.fitted} of {of} cropped and resized to {size[1]}×{size[0]}")
    return vectors


def _listed(folder: Path) -> list[Path]:
    paths = find_images(folder)
    if len(paths) < LEAST:
        raise ValueError(f"{folder} has {counted(len(paths), 'picture')}; a set needs at least {LEAST}.")
    return paths


def _show(reference: Path, rows: Sequence[Mapping[str, Any]], fewest: int) -> None:
    table = Table(title=f"beside {reference}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("pictures of", "number", "FID", "1000 KID"):
        table.add_column(title, justify="left" if title == "pictures of" else "right")
    for row in rows:
        kid = rounded(1000 * row["kid"], 2, error=1000 * row["kid_error"])
        table.add_row(row["folder"].replace("[", r"\["), str(row["pictures"]), f"{row['fid']:.2f}", kid)
    show(table)
    if fewest < FEW:
        say(f"FID of {fewest} pictures is too high; compare it only with sets as large. KID has no such bias.")
