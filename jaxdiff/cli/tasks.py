"""``jaxdiff tasks``: all tasks by name, and a contact sheet of what most of them do to a picture."""

import argparse

import jax.numpy as jnp
from rich.table import Table

from jaxdiff.cli.console import open_first, say, show
from jaxdiff.cli.options import add_general, check_free, check_picture_path
from jaxdiff.files import atomic, load_image, out_folder
from jaxdiff.tasks import TASKS
from jaxdiff.tasks.contact_sheet import SHEET, contact_sheet

__all__ = ["ABOUT", "EXAMPLES", "USAGE", "add_arguments", "run"]

USAGE = "[PICTURE] [options]"
ABOUT = "List all tasks by name. With a picture, show on one sheet what most of them do to it."
EXAMPLES = (
    "jaxdiff tasks",
    "jaxdiff tasks photo.png",
    "jaxdiff tasks photo.png --size 256 --out out/sheet.png",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "image", nargs="?", default=None, help="a picture for the contact sheet; without it, the names are listed"
    )
    parser.add_argument(
        "--size", type=int, default=128, help="side of the square that the picture is fitted to (default 128)"
    )
    parser.add_argument("--out", default="out/tasks.png", help="the contact sheet (default out/tasks.png)")
    add_general(parser, seed=False, overwrite=True)


def run(args: argparse.Namespace) -> None:
    """List the tasks, or draw the sheet of a picture."""
    if args.image is None:
        table = Table(title="tasks", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, task in TASKS.items():
            about = f"{task.about}; {task.shown_noise}"
            table.add_row(f"  {name}", about.replace("[", r"\["))
        show(table)
        return
    out = check_picture_path(args.out, "tasks.png")
    if args.size < 32 or args.size % 16:
        raise ValueError(f"--size {args.size} is not possible: take a multiple of 16, at least 32.")
    check_free(out, args.image, overwrite=args.overwrite)
    image = load_image(args.image, size=(args.size, args.size), resize=True).pixels
    out_folder(out.parent)
    sheet = contact_sheet(jnp.asarray(image))
    with atomic(out) as temporary:
        sheet.save(temporary)
    say(f"{len(SHEET)} measurements of {args.image}")
    open_first(out)
