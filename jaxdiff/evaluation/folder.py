"""A folder of results that knows which files are its own, so that no file of the user is lost."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from jaxdiff.files import check_folder, out_folder, parse_json, write_text

__all__ = ["MANIFEST", "ResultsFolder"]

MANIFEST = ".jaxdiff.json"
"""File name → SHA-256 of what we wrote. A file that was changed since is no longer ours."""


class ResultsFolder:
    """Where a run writes its files; only those of an earlier run are replaced, and only if the user says so."""

    def __init__(self, path: str | Path) -> None:
        """Nothing is made until ``make``."""
        self.path = Path(path)
        self._digests: dict[str, str] = {}

    def check(self, names: Iterable[str], *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> None:
        """See that files of these names may be written.

        Args:
            names: of the files.
            overwrite: whether an earlier run's files may be replaced.
            inputs: paths that the run reads.

        Raises:
            ValueError: if a file is in the way that is the user's, is read by the run, or may not be replaced.
        """
        check_folder(self.path)
        ours = self.ours()
        read = {Path(name).resolve() for name in inputs if name is not None}
        for file in (self.path / name for name in {**dict.fromkeys(names), **dict.fromkeys(ours)}):
            if not file.exists():
                continue
            if file.resolve() in read:
                raise ValueError(f"{file} is read by this run, which would overwrite it; choose another --out.")
            if file.name not in ours:
                raise ValueError(f"{file} is not ours, and would be overwritten; choose another --out.")
            if not overwrite:
                raise ValueError(f"{self.path} holds an earlier run; add --overwrite, or choose another --out.")

    def ours(self) -> set[str]:
        """The names of files that an earlier run wrote here and nobody changed."""
        try:
            digests = parse_json((self.path / MANIFEST).read_text("utf-8"))
            plain = {name: digest for name, digest in digests.items() if Path(name).name == name}
            return {name for name, digest in plain.items() if _digest(self.path / name) == digest != ""}
        except (OSError, ValueError, AttributeError):
            return set()

    def make(self) -> Path:
        """Make the folder; what an earlier run wrote stays until ``clear``, in case this run fails."""
        return out_folder(self.path)

    def clear(self) -> None:
        """Delete what an earlier run wrote."""
        for name in self.ours():
            (self.path / name).unlink()
        (self.path / MANIFEST).unlink(missing_ok=True)

    def wrote(self, *names: str) -> None:
        """Record files as ours; call it at once, so that a run that is killed leaves nothing that looks foreign."""
        self._digests |= {name: _digest(self.path / name) for name in names}
        write_text(self.path / MANIFEST, json.dumps(self._digests, indent=2) + "\n")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
