"""``jaxdiff doctor``: a line for each finding, and exit code 1 if one is not well."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxdiff.cli import doctor, inventory
from jaxdiff.cli.inventory import Package


def test_what_is_here_is_told_as_info_tells_it(jaxdiff):
    code, told, err = jaxdiff("doctor", "--quick")
    assert code == 0, told
    assert "all is well" in err
    for line in (
        f"versions: {inventory.versions()}",
        f"ok   devices: {inventory.devices()}",
        "cache of compiled programs",
    ):
        assert line in told
    assert f"devices: {inventory.devices()}" in jaxdiff("info")[1]


def test_packages_are_those_of_the_metadata(monkeypatch):
    needs = [
        "numpy>=1.26",
        "no-such-package>=2",
        'matplotlib>=999.1; extra == "plots"',
        'jaxdiff[plots]; extra == "train"',
        "pytest>=8; extra == 'test'",
    ]
    monkeypatch.setattr(inventory.metadata, "requires", lambda name: needs)
    found = {package.name: package for package in inventory.packages()}
    assert list(found) == ["numpy", "no-such-package", "matplotlib"]
    assert found["numpy"].fits
    assert found["no-such-package"].version is None
    assert (found["matplotlib"].extra, found["matplotlib"].fits) == ("plots", False)


@pytest.mark.parametrize(
    ("version", "least", "fits"), [("0.10.2", "0.9", True), ("1.2", "1.2.1", False), ("3.0rc1", "3.0", True)]
)
def test_versions_are_compared_by_their_numbers(version, least, fits):
    assert Package("a", "", least, version).fits == fits


def test_what_is_missing_is_told_with_the_line_that_installs_it(jaxdiff, monkeypatch):
    found = [Package("flax", "", "99", "0.1"), Package("rich", "", "1", None), Package("grain", "train", "0.2", None)]
    monkeypatch.setattr(inventory, "packages", lambda: found)
    code, told, err = jaxdiff("doctor", "--quick")
    assert code == 1
    assert "FAIL flax: is 0.1, older than 99; pip install -U 'flax>=99'" in told
    assert "FAIL rich: is missing; pip install -U 'rich>=1'" in told
    assert "extra train: grain missing; for it: pip install 'jaxdiff[train]'" in told
    assert "2 of these need your attention" in err


def test_too_little_memory_and_a_cache_that_cannot_be_written(jaxdiff, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "available_memory", lambda device: 1000.0)
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path)
    code, told, _ = jaxdiff("doctor", "--quick")
    assert code == 1
    assert "FAIL memory" in told
    assert f"{tmp_path} is not writable; set JAXDIFF_CACHE" in told


@pytest.mark.parametrize(("mean", "std", "wrong"), [(0.8, 0.447, False), (0.7, 0.447, True), (0.8, 0.3, True)])
def test_draws_are_compared_with_the_closed_form(monkeypatch, mean, std, wrong):
    samples = mean + std * np.random.default_rng(0).standard_normal((64, 4, 4, 1))
    monkeypatch.setattr(doctor.jd, "posterior", lambda *a, **more: SimpleNamespace(samples=samples))
    assert doctor.closed_form()[0] == wrong


def test_a_restoration_that_fails_is_a_line_and_the_next_one_runs(jaxdiff, monkeypatch):
    def broken():
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(doctor, "closed_form", broken)
    monkeypatch.setattr(doctor, "with_faces64", lambda: (False, "30.0 dB, where grey has 20.0 dB"))
    code, told, _ = jaxdiff("doctor")
    assert code == 1
    assert "FAIL restoration in closed form: RuntimeError: no such kernel" in told
    assert "try JAXDIFF_FAST=off" in told
    assert "ok   restoration with faces64: 30.0 dB" in told


@pytest.mark.slow
def test_this_machine_is_well(jaxdiff):
    code, told, _ = jaxdiff("doctor")
    assert code == 0, told
    assert told.count("ok   restoration") == 2
