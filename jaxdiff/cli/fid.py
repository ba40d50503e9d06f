"""``jaxdiff fid``: how far sets of pictures are from a reference."""

import argparse
import math
from pathlib import Path

from rich.table import Table

from jaxdiff.cli.console import open_first, progress, say, show
from jaxdiff.cli.options import add_general, at_least_one, check_free
from jaxdiff.evaluation.frechet import Moments
from jaxdiff.evaluation.sets import LEAST, Distances, distances, published_moments, set_features
from jaxdiff.files import find_images, load_image, out_folder
from jaxdiff.metrics import inception_params
from jaxdiff.progress import Stage
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
    params = inception_params()
    sets = {str(folder): _listed(folder) for folder in args.folders}
    known = published_moments(args.reference) if args.reference.suffix == ".npz" else None
    if known is None:
        sets = {str(args.reference): _listed(args.reference), **sets}
    size = load_image(sets[str(args.folders[0])][0]).size
    vectors = {}
    with progress() as bar:
        stages = {name: bar(name, len(paths)) for name, paths in sets.items()}
        for name, paths in sets.items():
            stage: Stage = stages[name]
            found = set_features(paths, size, params, batch_size=args.batch_size, report=stage)
            vectors[name] = found.vectors
            if found.fitted:
                say(
                    f"{name}: {found.fitted} of {counted(len(paths), 'picture')} cropped and resized to {size[1]}×{size[0]}"
                )
    reference = known if known is not None else vectors[str(args.reference)]
    names = list(dict.fromkeys(map(str, args.folders)))
    rows = {name: distances(vectors[name], reference) for name in names}
    _show(args.reference, rows, {name: len(vectors[name]) for name in names}, reference)
    if args.out is not None:
        out_folder(args.out.parent)
        counts = {name: len(vectors[name]) for name in names}
        write_rows(args.out, [{"folder": n, "pictures": counts[n], **found._asdict()} for n, found in rows.items()])
        open_first(args.out)


def _listed(folder: Path) -> list[Path]:
    paths = find_images(folder)
    if len(paths) < LEAST:
        raise ValueError(f"{folder} has {counted(len(paths), 'picture')}; a set needs at least {LEAST}.")
    return paths


def _show(reference: Path, rows: dict[str, Distances], counts: dict[str, int], known: object) -> None:
    table = Table(title=f"beside {reference}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("pictures of", "number", "FID", "1000 KID"):
        table.add_column(title, justify="left" if title == "pictures of" else "right")
    for name, found in rows.items():
        kid = rounded(1000 * found.kid, 2, error=1000 * found.kid_error) if not math.isnan(found.kid) else "–"
        table.add_row(name.replace("[", r"\["), str(counts[name]), f"{found.fid:.2f}", kid)
    show(table)
    fewest = min([*counts.values(), *([] if isinstance(known, Moments) else [len(known)])])  # type: ignore[arg-type]
    if fewest < FEW:
        say(f"FID of {fewest} pictures is too high; compare it only with sets as large. KID has no such bias.")
