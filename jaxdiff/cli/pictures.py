"""Which pictures a command line names, what their results are called, and which square of a photo the prior sees."""

import argparse
import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxdiff import photos
from jaxdiff.evaluation.folder import MANIFEST
from jaxdiff.files import check_name, find_images, load_image, load_mask
from jaxdiff.photos import Framing

__all__ = ["ALIGN", "add_frame", "check_frame", "collected", "find", "framing_of", "names_of", "spelled_out"]

ALIGN = ("face", "centre")


def add_frame(group: argparse._ActionsContainer) -> None:
    """``--resize``, ``--align`` and ``--frame``, of which one can be given."""
    either = group.add_mutually_exclusive_group()
    either.add_argument("--resize", action="store_true", help="cut out the centre, and resize it to the prior's size")
    either.add_argument(
        "--align",
        nargs="?",
        const="face",
        choices=ALIGN,
        help="restore a square of the photo, and put it back: around the largest face (face, the default), or the centre",
    )
    either.add_argument(
        "--frame", metavar="TOP,LEFT,SIDE", help="restore this square of the photo, given in pixels, and put it back"
    )


def spelled_out(words: Sequence[str]) -> list[str]:
    """The words, with the value that ``--align`` lets one leave out: what follows may be a picture.

    >>> spelled_out(["--align", "photo.jpg"])
    ['--align=face', 'photo.jpg']
    """
    return [
        "--align=face" if word == "--align" and next(iter(words[i + 1 :]), "") not in ALIGN else word
        for i, word in enumerate(words)
    ]


def check_frame(args: argparse.Namespace) -> None:
    """See that ``--frame`` can be read.

    Raises:
        ValueError: if not.
    """
    if args.frame is not None:
        _read(args.frame)


def _read(text: str) -> Framing:
    try:
        top, left, side = (int(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"--frame {text} is not possible: TOP,LEFT,SIDE in pixels, such as 33,147,152.") from None
    return Framing(top, left, side)


def framing_of(args: argparse.Namespace, note: Callable[[str], Any]) -> Framing | None:
    """The square of ``args.image`` that ``--align`` or ``--frame`` asks for; None without them.

    Args:
        args: the options.
        note: told where it is.

    Raises:
        ValueError: if the picture cannot be read, or the frame is not within it.
    """
    if args.align is None and args.frame is None:
        return None
    photo = load_image(args.image).pixels
    if args.frame is not None:
        try:
            return photos.inside(_read(args.frame), photo)
        except ValueError as error:
            raise ValueError(f"{args.image}: {error}") from None
    if args.measured and args.mask is not None:
        with contextlib.suppress(ValueError):  # a mask of another size, or none; measuring says what is wrong with it
            photo = photos.filled(photo, load_mask(args.mask, (photo.shape[0], photo.shape[1])))
    framing, why = (photos.centre(photo), None) if args.align == "centre" else photos.choose(photo)
    what = why or f"the frame is the {args.align}"
    note(f"note: {args.image}: {what}, --frame {','.join(map(str, framing))}")
    return framing


def find(given: Sequence[str]) -> list[Path]:
    """The pictures that are named, and those in the folders that are named; each once, in the order given.

    Results of jaxdiff in a folder below are left out.

    Raises:
        ValueError: if a folder holds no picture, or a picture's name is not UTF-8.
    """
    found = []
    for name in given:
        check_name(name)
        found += _within(Path(name)) if os.path.isdir(name) else [Path(name)]
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.resolve(), path)
    return list(once.values())


def _within(folder: Path) -> list[Path]:
    pictures = find_images(folder)
    results = {path.parent for path in folder.rglob(MANIFEST)} - {folder}
    own = [path for path in pictures if path.parent not in results]
    if not own:
        raise ValueError(f"all pictures in {folder} are results of jaxdiff; name them one by one, or another folder.")
    return own


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each picture: that of its file, with as much of its folders as tells them apart.

    >>> names_of([Path("a.png"), Path("x/b.png")])
    ['a', 'b']
    >>> names_of([Path("x/a.png"), Path("y/a.png"), Path("y/a.jpg")])
    ['x-a.png', 'y-a.png', 'y-a.jpg']
    """
    schemes: Iterable[Callable[[Path], str]] = (
        lambda path: path.stem,
        lambda path: path.name,
        lambda path: "-".join(path.parts[-2:]),
    )
    for scheme in schemes:
        names = [scheme(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    return _numbered(["-".join(path.resolve().parts[1:]) for path in paths])


def _numbered(names: list[str]) -> list[str]:
    """The names, with a number behind those that were there before.

    >>> _numbered(["a", "a", "a-2"])
    ['a', 'a-3', 'a-2']
    """
    taken, different = set(names), []
    for name in names:
        free = name
        if name in different:
            free = next(f"{name}-{i}" for i in itertools.count(2) if f"{name}-{i}" not in taken)
        taken.add(free)
        different.append(free)
    return different


def collected(tries: Iterable[Callable[[], Any]]) -> list[Any]:
    """What the functions return, if none refuses.

    Raises:
        ValueError: one sentence that has each different complaint once.
    """
    done, complaints = [], []
    for attempt in tries:
        try:
            done.append(attempt())
        except ValueError as error:
            complaints.append(str(error).rstrip("."))
    if complaints:
        raise ValueError("; ".join(dict.fromkeys(complaints)) + ".")
    return done
