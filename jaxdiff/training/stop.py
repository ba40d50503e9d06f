"""Ctrl-C and SIGTERM as a wish to stop: a run ends after the update at hand, on all hosts after the same one."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

__all__ = ["Stop", "told_to_stop"]


class Stop:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop after this update; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.asked = True
        signal.signal(number, self._old[number])

    def __enter__(self) -> "Stop":
        """Listen, in the main thread; signals reach no other."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the signals as they were."""
        for number, old in self._old.items():
            signal.signal(number, old)


def told_to_stop(stop: Stop, done: int, every: int) -> bool:
    """Whether to leave the run after ``done`` updates.

    Every update needs all hosts, so they must leave at the same one: they ask each other each ``every`` updates.
    """
    if jax.process_count() == 1:
        return stop.asked
    return done % every == 0 and bool(process_allgather(np.asarray(stop.asked)).any())
