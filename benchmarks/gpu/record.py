"""What a session writes, as it goes: one JSON object a line, and the clock that it lives by."""

import json
import time
from pathlib import Path
from typing import Any


class Record:
    """A folder of results, and the time that is left."""

    def __init__(self, out: Path, seconds: float) -> None:
        """Begin: the clock runs from here."""
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.end = out, time.monotonic() + seconds
        (out / "results.jsonl").write_text("", "utf-8")

    def left(self) -> float:
        """Seconds until the session ends."""
        return self.end - time.monotonic()

    def write(self, stage: str, **row: Any) -> None:
        """Keep a row; it is on disk when this returns."""
        line = json.dumps({"stage": stage, **row})
        with open(self.out / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
