"""A trace of a few steps of a run, for xprof, TensorBoard or Perfetto."""

from pathlib import Path

import jax

__all__ = ["Trace"]


class Trace:
    """Traces from the step after ``skip`` on, for ``count`` steps; call it after each step, and close it.

    The first steps compile, which would hide the others in the trace.

    Args:
        folder: where ``jax.profiler`` writes; None for no trace.
        skip: steps before the trace.
        count: steps in it.
    """

    def __init__(self, folder: str | Path | None, *, skip: int = 2, count: int = 3) -> None:
        self.folder, self._first, self._end, self._done = folder, skip, skip + count, 0
        self.written = False

    def __call__(self) -> None:
        """A step is done."""
        self._done += 1
        if self.folder is not None and self._done == self._first:
            jax.profiler.start_trace(str(self.folder))
        if self._done == self._end:
            self.close()

    def close(self) -> None:
        """End the trace, if it has begun."""
        if self.folder is not None and self._done >= self._first and not self.written:
            jax.profiler.stop_trace()
            self.written = True

    def told(self) -> str:
        """What became of it, as a sentence."""
        if self.written:
            return f"a trace is in {self.folder}; look at it with: xprof --logdir {self.folder}"
        return f"the run was too short for a trace: it begins after {self._first} steps."
