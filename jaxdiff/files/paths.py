"""Files and folders: what is written is written whole, what is read is a regular file, what is quoted is one line."""

import contextlib
import errno
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "atomic",
    "check_folder",
    "one_sentence",
    "open_regular",
    "out_folder",
    "parse_json",
    "write_text",
]


def check_folder(path: str | Path, option: str = "--out") -> Path:
    """See that an output folder could be made, without making it; ``option`` names it.

    Raises:
        ValueError: if a file is in its way, or what is there of its path cannot be written to.
    """
    path = Path(path)
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.exists(folder))
    if not there.is_dir():
        raise ValueError(f"cannot write to {path} ({there} is a file); choose another {option}.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {path} ({there} is not writable); choose another {option}.")
    return path


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """``open(path, "rb")`` for regular files alone: a pipe may wait for ever, and a device may never end.

    Raises:
        OSError: if there is no such file, or it is of another kind.
    """
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(kind) else "it is no regular file")
    return open(path, "rb")


def one_sentence(message: object, most: int = 600) -> str:
    r"""A message that quotes a file, made fit to be shown: one line, no control characters, its middle left out if long.

    >>> one_sentence("its key \x1b[31m is\nunknown")
    'its key �[31m is unknown'
    """
    text = " ".join(str(message).split())
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 2 :]}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def parse_json(text: str) -> Any:
    """``json.loads``, for text of which nothing is known.

    Raises:
        ValueError: if it is no JSON, or is nested so deeply that reading it would end the program.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def out_folder(path: str | Path) -> Path:
    """Make an output folder and see that it can be written.

    Raises:
        ValueError: if it cannot.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {path} ({error.strerror or error}); choose another --out.") from None
    return path


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well, and vanishes otherwise."""
    path = Path(path)
    # Short, so that any name that a file can have leaves room for the temporary one.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:32]}-", suffix=path.suffix[:16])
    os.close(handle)
    try:
        yield Path(name)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, whole or not at all; returns its path."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)
