"""A folder of results that knows which files are its own, so that no file of the user is lost."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxdiff.files import check_folder, out_folder, parse_json, write_text

__all__ = ["MANIFEST", "ResultsFolder"]

MANIFEST = ".jaxdiff.json"
"""File name → SHA-256 of what we wrote. A file that was changed since is no longer ours."""
RUN = ".run"
"""The entry of the manifest that says which run writes here, and the names of its files until it has written them all."""


class ResultsFolder:
    """Where a run writes its files; only those of an earlier run are replaced, and only if the user says so."""

    def __init__(self, path: str | Path, beside: Path | None = None) -> None:
        """Nothing is made until ``make``.

        Args:
            path: the folder.
            beside: a file next to the folder that belongs to it.
        """
        self.path = Path(path)
        self.beside = {} if beside is None else {f"../{beside.name}": beside}
        self._run = ""
        self._unfinished: list[str] = []
        self._digests: dict[str, str] = {}

    def check(
        self,
        names: Iterable[str],
        *,
        overwrite: bool = False,
        inputs: Iterable[str | Path | None] = (),
        run: str = "",
        goes_on: bool = False,
    ) -> None:
        """See that files of these names may be written.

        Args:
            names: of the files.
            overwrite: whether an earlier run's files may be replaced.
            inputs: paths that the run reads.
            run: what tells this run from others.
            goes_on: whether this run was stopped before it had written all. It then replaces its own files.

        Raises:
            ValueError: if a file is in the way that is the user's, is read by the run, or may not be replaced.
        """
        check_folder(self.path)
        self._run = run
        ours = self.ours()
        read = {Path(name).resolve() for name in inputs if name is not None}
        goes_on = goes_on and self._record().get(RUN, {}).get("id") == run
        for name in dict.fromkeys([*names, *self.beside, *ours]):
            file = self._file(name)
            if not file.exists():
                continue
            if file.resolve() in read:
                raise ValueError(f"{file} is read by this run, which would overwrite it; choose another --out.")
            if name not in ours:
                raise ValueError(f"{file} is not ours, and would be overwritten; choose another --out.")
            if not (overwrite or goes_on):
                raise ValueError(f"{self.path} holds an earlier run; add --overwrite, or choose another --out.")

    def ours(self) -> set[str]:
        """The names of files that an earlier run wrote here and nobody changed, or that it was writing when it was stopped."""
        record = self._record()
        plain = {name: digest for name, digest in record.items() if name in self.beside or Path(name).name == name}
        written = {name for name, digest in plain.items() if _digest(self._file(name)) == digest != ""}
        return written | {name for name in record.get(RUN, {}).get("names", ()) if self._file(name).is_file()}

    def _record(self) -> dict[str, Any]:
        """The manifest; empty if there is none, or none that can be read."""
        try:
            record = parse_json((self.path / MANIFEST).read_text("utf-8"))
            run = record.get(RUN, {})
            plain = all(Path(name).name == name or name in self.beside for name in run.get("names", ()))
            return record if plain else {}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def make(self) -> Path:
        """Make the folder; what an earlier run wrote stays until ``begin``, in case this run fails."""
        return out_folder(self.path)

    def begin(self, names: Iterable[str]) -> None:
        """Delete what an earlier run wrote, and record which files will be written."""
        for name in self.ours() - self.beside.keys():
            (self.path / name).unlink()
        self._digests, self._unfinished = {}, [*names, *self.beside]
        self._write()

    def wrote(self, *names: str) -> None:
        """Record files as ours."""
        self._digests |= {name: _digest(self._file(name)) for name in names}
        self._write()

    def finish(self) -> None:
        """Record that all files are written: one that is changed from now on is the user's."""
        self._unfinished = []
        self.wrote(*self.beside)

    def _file(self, name: str) -> Path:
        return self.beside.get(name, self.path / name)

    def _write(self) -> None:
        record = {RUN: {"id": self._run, "names": self._unfinished}, **self._digests}
        write_text(self.path / MANIFEST, json.dumps(record, indent=2) + "\n")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
