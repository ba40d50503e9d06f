"""What a job runs: which steps, settings, tasks and methods, and what a later call may add."""

import json
from dataclasses import replace

import pytest
import safetensors.numpy

from jaxdiff import samplers
from jaxdiff.bench import job as bench
from jaxdiff.network_calls import calls_of
from jaxdiff.tasks import sampler
from tests.support.jobs import GRID, SMALL, rows_of
from tests.support.networks import random_lpips


def test_calls_bound_what_an_image_costs_with_every_method(data, tiny, tmp_path):
    methods = ("dps", "daps", "repaint")
    job = bench.Job(replace(GRID, methods=methods, calls=20), data, tmp_path / "some", tiny)
    made = {m: calls_of(job.samplers["grayscale", m], len(job.grids["grayscale", m].t)).forward for m in methods}
    assert made["dps"] == 20
    assert all(0 < calls <= 20 for calls in made.values()), made
    few = bench.Job(replace(GRID, methods=("dps", "daps"), calls=1), data, tmp_path / "few", tiny)
    assert set(few.grids) == {("inpaint_random", "dps"), ("grayscale", "dps")}
    assert "network calls" in few.refused["grayscale", "daps"]


def test_settings_are_the_recorded_ones_the_defaults_or_a_table(data, tiny, tmp_path):
    grid = replace(GRID, tasks=("gaussian_blur",), methods=("dps",))
    zeta = {
        name: float(
            bench.Job(replace(grid, settings=name), data, tmp_path / str(name), tiny, table=table)
            .samplers["gaussian_blur", "dps"]
            .zeta
        )
        for name, table in ((None, None), ("defaults", None), ("mine.json", _settings(7.0)))
    }
    assert zeta[None] == pytest.approx(sampler("dps", "gaussian_blur", "none").zeta)
    assert zeta["defaults"] == pytest.approx(samplers.dps().zeta)
    assert zeta["mine.json"] == 7
    assert len(set(zeta.values())) == 3
    with pytest.raises(ValueError, match="holds a job with table"):
        bench.Job(replace(grid, settings="mine.json"), data, tmp_path / "mine.json", tiny, table=_settings(8.0))


def _settings(zeta):
    return {"none": {"default": {"dps": {"zeta": zeta}}}}


def test_lpips_is_by_the_network_that_is_asked_for(data, tiny, tmp_path, monkeypatch):
    bench.Job(SMALL, data, tmp_path / "alex", tiny).run()
    safetensors.numpy.save_file(random_lpips("vgg"), tmp_path / "lpips_vgg.safetensors")
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path))
    bench.Job(replace(SMALL, lpips="vgg"), data, tmp_path / "vgg", tiny).run()
    alex, vgg = rows_of(tmp_path / "alex"), rows_of(tmp_path / "vgg")
    assert [row["psnr"] for row in alex] == [row["psnr"] for row in vgg]
    assert all(float(a["lpips"]) != float(b["lpips"]) for a, b in zip(alex, vgg, strict=True))
    assert "LPIPS is by VGG16" in (tmp_path / "vgg" / "summary.md").read_text()
    with pytest.raises(ValueError, match="lpips = vgg, not alex"):
        bench.Job(SMALL, data, tmp_path / "vgg", tiny)


def test_a_job_of_an_older_version_goes_on_with_alexnet(data, tiny, tmp_path):
    bench.Job(SMALL, data, tmp_path, tiny)
    record = json.loads((tmp_path / "bench.json").read_text())
    del record["lpips"]
    (tmp_path / "bench.json").write_text(json.dumps(record))
    assert bench.Job(SMALL, data, tmp_path, tiny).open_parts()
    with pytest.raises(ValueError, match="lpips = alex, not vgg"):
        bench.Job(replace(SMALL, lpips="vgg"), data, tmp_path, tiny)


@pytest.mark.slow
def test_a_job_grows_but_does_not_change(data, tiny, tmp_path):
    small = replace(GRID, tasks=("grayscale",), seeds=(0,), pictures=False)
    bench.Job(small, data, tmp_path, tiny).run()
    grown = bench.Job(replace(small, seeds=(0, 3)), data, tmp_path, tiny)
    assert {part.seed for part in grown.open_parts()} == {3}
    with pytest.raises(ValueError, match="steps = 12, not 13"):
        bench.Job(replace(small, steps=13), data, tmp_path, tiny)
    (tmp_path / "bench.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        bench.Job(small, data, tmp_path, tiny)


def test_unknown_names_are_refused_before_anything_runs(data, tiny, tmp_path):
    for wrong, word in (({"tasks": ("inpaint_bix",)}, "inpaint_box"), ({"methods": ("dsp",)}, "dps")):
        with pytest.raises(ValueError, match=word):
            bench.Job(replace(GRID, **wrong), data, tmp_path / "none", tiny)
    assert not (tmp_path / "none").exists()


OWN = """
from jaxdiff import operators, samplers

def half(key, image_shape):
    return operators.outpaint(image_shape=image_shape)

def gentle_ddnm():
    return samplers.ddnm(eta=0.5)
"""


def test_methods_and_tasks_of_ones_own(data, tiny, tmp_path, monkeypatch):
    (tmp_path / "my_bench.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    grid = replace(SMALL, tasks=("my_bench:half",), methods=("ddnm", "my_bench:gentle_ddnm"), steps=3, pictures=True)
    out = tmp_path / "out"
    outcome = bench.Job(grid, data, out, tiny).run()
    assert len(outcome.rows) == 10
    assert len({row["psnr"] for row in outcome.rows}) == 10, "another method, other images"
    assert (out / "pictures" / "my_bench-half" / "my_bench-gentle_ddnm" / "s0" / "0.png").exists()
    assert not bench.Job(grid, data, out, tiny).open_parts()
    with pytest.raises(ValueError, match="no 'hard_ddnm'"):
        bench.Job(replace(grid, methods=("my_bench:hard_ddnm",)), data, tmp_path / "not", tiny)
