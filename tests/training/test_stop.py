"""A run that is told to stop ends after an update, and goes on from there."""

import os
import signal
import threading
import types

import jax
import numpy as np
import pytest

from jaxdiff.cli.console import progress
from jaxdiff.cli.train import Told
from jaxdiff.training import stop, train
from jaxdiff.training.data import Stream
from tests.support.networks import quick
from tests.support.runs import rows_of, same


@pytest.mark.slow
def test_stopped_anywhere_and_gone_on(tiny, tmp_path, monkeypatch, small_network):
    quick(monkeypatch, small_network)
    config = tiny(steps=11)
    expected = train(config, tmp_path / "whole")
    for stop_at in (1, 4, 5, 11):
        result = train(config, tmp_path / "parts", stop_at=stop_at)
        assert (result.step, result.finished) == (stop_at, stop_at == 11)
    assert expected.finished
    assert same(result.state, expected.state)
    rows = rows_of(tmp_path / "parts" / "log.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 12))
    for ours, theirs in zip(rows, rows_of(tmp_path / "whole" / "log.csv"), strict=True):
        assert ours["loss"] == theirs["loss"]
    again = train(config, tmp_path / "parts")
    assert again.finished
    assert same(again.state, expected.state)


def test_sigterm_saves_and_stops(tiny, tmp_path, monkeypatch, small_network, capfd):
    quick(monkeypatch, small_network)
    following = Stream.__next__
    seen = []

    def next_(self):
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return following(self)

    monkeypatch.setattr(Stream, "__next__", next_)
    before = signal.getsignal(signal.SIGTERM)
    with progress() as bar:
        result = train(tiny(steps=50), tmp_path / "run", progress=Told(bar))
    assert (result.step, result.finished) == (5, False)
    assert (tmp_path / "run" / "checkpoints" / "5").is_dir()
    assert signal.getsignal(signal.SIGTERM) is before
    err = capfd.readouterr().err
    assert "22 images (2 held out, 0 unreadable)" in err
    assert "the same command goes on from there" in err
    assert "images/s" in err


@pytest.mark.slow
def test_runs_outside_the_main_thread(tiny, tmp_path, monkeypatch, small_network):
    quick(monkeypatch, small_network)
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tiny(steps=3), tmp_path / "r")))
    thread.start()
    thread.join()
    assert results[0].finished


def test_several_hosts_leave_at_the_same_update(monkeypatch):
    here = types.SimpleNamespace(asked=False)
    assert not stop.told_to_stop(here, 10, 5)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    told = []
    monkeypatch.setattr(stop, "process_allgather", lambda mine: told.append(bool(mine)) or np.array([mine, True]))
    assert not stop.told_to_stop(here, 9, 5)
    assert told == []
    assert stop.told_to_stop(here, 10, 5)  # the other host was asked
    monkeypatch.setattr(stop, "process_allgather", lambda mine: np.array([mine, False]))
    assert not stop.told_to_stop(here, 10, 5)
    here.asked = True
    assert not stop.told_to_stop(here, 9, 5)
    assert stop.told_to_stop(here, 10, 5)
