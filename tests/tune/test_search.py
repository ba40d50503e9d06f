"""The search of hyper-parameters: settings side by side equal single runs, the best is chosen, a kill costs nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import jaxdiff as jd
from jaxdiff import network_calls, operators, schedules, tasks
from jaxdiff.diffusion import eps_from_x0
from jaxdiff.engine import stack
from jaxdiff.samplers import METHODS
from jaxdiff.samplers.ranges import Choice, Linear, Log
from jaxdiff.tune import search as tuning
from jaxdiff.tune.proposals import proposals
from jaxdiff.tune.search import Search, best_of, read_settings, run_trials, tune
from tests.support.tiers import fast_only

SHAPE = (32, 32, 3)
STD = 0.25


@struct.dataclass
class Isotropic:
    """The exact denoiser of x₀ ~ N(0, STD² I)."""

    schedule: schedules.NoiseSchedule
    image_shape: tuple = struct.field(pytree_node=False, default=())

    def __call__(self, x_t, t, s=None):
        level = self.schedule.at(t)
        x0 = jnp.sqrt(level.alpha_bar) * STD**2 / (level.alpha_bar * STD**2 + level.one_minus_alpha_bar) * x_t
        return jd.Prediction(x0, eps_from_x0(x_t, x0, level), None)


@pytest.fixture(scope="module")
def prior():
    return Isotropic(schedules.linear(1000), image_shape=SHAPE)


@pytest.fixture(scope="module")
def search():
    truths = STD * jax.random.normal(jax.random.key(3), (3, *SHAPE))
    operator = operators.denoise(image_shape=SHAPE)
    problems = stack([jd.observe(jax.random.key(i), operator, truth, 0.3) for i, truth in enumerate(truths)])
    return Search("dps", problems, np.asarray(truths), steps=20, seed=5, batch_size=8)


def last(iterator):
    *_, found = iterator
    return found


def one_by_one(search, prior, options, seeds=1):
    """Mean PSNR of a setting by ``jd.sample``, image by image."""
    sampler = METHODS[search.method](**options)
    values = []
    for index, truth in enumerate([*search.truths] * seeds):
        problem = jax.tree.map(lambda leaf, i=index % len(search.truths): leaf[i], search.problems)
        key = jax.random.fold_in(jax.random.key(search.seed), index)
        x, _ = jd.sample(key, prior, problem, sampler, steps=search.steps)
        values.append(float(jd.metrics.psnr(x, jnp.asarray(truth))))
    return float(np.mean(values))


@pytest.mark.slow
def test_settings_side_by_side_equal_single_runs(search, prior):
    settings = [{"zeta": zeta} for zeta in (0.1, 1.0, 3.0, 30.0)]
    trials = last(run_trials(search, prior, settings))
    assert [trial["options"] for trial in trials] == settings
    for trial in trials:
        assert trial["psnr"] == pytest.approx(one_by_one(search, prior, trial["options"]), abs=2e-3)
    chosen = best_of(trials, "psnr")
    assert chosen["psnr"] == max(trial["psnr"] for trial in trials)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", fast_only([4], [12, 4]))
def test_seeds_run_side_by_side_too_and_are_averaged(search, prior, monkeypatch, batch_size):
    """Two settings × two seeds × three images: one call where the batch holds them, in pieces of its size where not."""
    real, calls = tuning.restore_many, []

    def counts(keys, *args, **options):
        calls.append((len(keys), options["batch_size"]))
        return real(keys, *args, **options)

    monkeypatch.setattr(tuning, "restore_many", counts)
    settings = [{"zeta": zeta} for zeta in (0.1, 3.0)]
    trials = last(run_trials(search._replace(seeds=2, batch_size=batch_size), prior, settings))
    assert calls == ([(12, 12)] if batch_size == 12 else [(6, 4), (6, 4)])
    for trial in trials:
        assert trial["psnr"] == pytest.approx(one_by_one(search, prior, trial["options"], seeds=2), abs=2e-3)
        assert trial["psnr"] != pytest.approx(one_by_one(search, prior, trial["options"]), abs=2e-3)
    with pytest.raises(ValueError, match="at least one seed"):
        last(run_trials(search._replace(seeds=0), prior, settings))


@pytest.mark.slow
def test_settings_that_shape_the_program_run_too(search, prior):
    search = search._replace(method="sdedit")
    settings = [{"start": start} for start in (100, 400)]
    trials = last(run_trials(search, prior, settings))
    for trial in trials:
        assert trial["psnr"] == pytest.approx(one_by_one(search, prior, trial["options"]), abs=2e-3)


@pytest.mark.slow
def test_the_exact_setting_is_as_good_as_theory_says(prior):
    """ΠGDM told the data's own standard deviation is exact: a draw from the posterior errs by twice its variance."""
    truths = STD * jax.random.normal(jax.random.key(3), (6, *SHAPE))
    operator = operators.denoise(image_shape=SHAPE)
    problems = stack([jd.observe(jax.random.key(i), operator, t, 0.25) for i, t in enumerate(truths)])
    search = Search("pigdm", problems, np.asarray(truths), steps=500, batch_size=24)
    settings = [{"zeta": 1.0, "prior_std": std} for std in (0.05, STD)]
    trials = last(run_trials(search, prior, settings))
    posterior_variance = STD**2 * 0.25**2 / (STD**2 + 0.25**2)
    expected = 10 * np.log10(4 / (2 * posterior_variance))
    # A finite number of steps leaves out some of the variance, never adds any.
    assert expected - 0.05 < trials[1]["psnr"] < expected + 0.35


@pytest.mark.slow
def test_what_diverges_is_the_worst_and_never_crashes(search, prior, tmp_path):
    settings = [{"zeta": 1e38, "norm": "squared"}, {"zeta": 1.0}]
    trials = last(run_trials(search, prior, settings))
    assert trials[0] == {
        "options": {"zeta": 1e38, "norm": "squared"},
        "psnr": None,
        "ssim": None,
        "lpips": None,
        "error": "diverged",
    }
    assert best_of(trials, "psnr")["options"] == {"zeta": 1.0}
    assert best_of(trials, "lpips")["options"] == {"zeta": 1.0}


@pytest.mark.slow
def test_images_too_small_for_lpips_are_tuned_by_the_other_scores(search, prior, tmp_path):
    shape = (16, 16, 3)
    truths = STD * jax.random.normal(jax.random.key(3), (2, *shape))
    operator = operators.denoise(image_shape=shape)
    problems = stack([jd.observe(jax.random.key(i), operator, truth, 0.3) for i, truth in enumerate(truths)])
    small = search._replace(problems=problems, truths=np.asarray(truths))
    prior = prior.replace(image_shape=shape)
    path = tmp_path / "settings.json"
    best = tune(path, small, prior, **options_of(path) | {"budget": 2})
    assert best["psnr"] == pytest.approx(one_by_one(small, prior, best["options"]), abs=2e-3)
    assert best["lpips"] is None
    with pytest.raises(ValueError, match="too small for LPIPS; choose by psnr or ssim"):
        tune(path, small, prior, **options_of(path, metric="lpips"))


@pytest.mark.slow
def test_a_setting_that_cannot_run_says_why(search, prior):
    search = search._replace(method="sitcom", calls=20)
    trials = last(run_trials(search, prior, [{"iterations": 30}, {"iterations": 3}]))
    assert "20 network calls" in trials[0]["error"]
    assert trials[1]["psnr"] is not None


def options_of(path, **more):
    return {"task": "denoise", "prior": "gauss", "budget": 6, "noise_std": 0.3, "source": "here", **more}


@pytest.mark.slow
def test_killed_and_taken_up_gives_the_same_file(search, prior, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole.json", tmp_path / "cut.json"
    tune(whole, search, prior, **options_of(whole))
    real, calls = tuning.restore_many, []

    def dies(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(tuning, "restore_many", dies)
    with pytest.raises(KeyboardInterrupt):
        tune(cut, search, prior, **options_of(cut))
    assert 0 < len(read_settings(cut)["provenance"]["gauss"]["denoise"]["dps"]["trials"]) < 6
    tune(cut, search, prior, **options_of(cut))
    assert cut.read_bytes() == whole.read_bytes()
    count = len(calls)
    tune(cut, search, prior, **options_of(cut))
    assert len(calls) == count, "what is recorded is not run again"


@pytest.mark.slow
def test_another_budget_keeps_what_was_found(search, prior, tmp_path, monkeypatch):
    path = tmp_path / "settings.json"
    best = tune(path, search, prior, **options_of(path))
    monkeypatch.setattr(tuning, "restore_many", None)  # nothing is run again
    assert tune(path, search, prior, **options_of(path, budget=2)) == best
    assert len(read_settings(path)["provenance"]["gauss"]["denoise"]["dps"]["trials"]) == 6


def test_figures_of_another_measurement_or_prior_are_not_taken(search, prior, tmp_path):
    path = tmp_path / "settings.json"
    first = tune(path, search, prior, **options_of(path, budget=2))
    noisier = search._replace(problems=search.problems.replace(y=search.problems.y + 0.5))
    other = tune(path, noisier, prior, **options_of(path, budget=2))
    third = tune(path, noisier, Isotropic(schedules.cosine(1000), image_shape=SHAPE), **options_of(path, budget=2))
    assert len({first["psnr"], other["psnr"], third["psnr"]}) == 3


def test_an_exact_restoration_is_the_best_and_not_diverged(search, prior):
    truths = search.truths
    problems = stack(
        [jd.observe(jax.random.key(0), operators.denoise(image_shape=SHAPE), truth, 0.0) for truth in truths]
    )
    trials = last(run_trials(search._replace(method="ddnm", problems=problems), prior, [{}]))
    assert 100 < trials[0]["psnr"] <= 150


@pytest.mark.slow
def test_another_search_is_kept_beside_and_restore_reads_both(search, prior, tmp_path):
    path = tmp_path / "settings.json"
    tune(path, search, prior, **options_of(path))
    tune(path, search._replace(method="ddnm"), prior, **options_of(path, budget=3, metric="ssim"))
    held = read_settings(path)
    trials = held["provenance"]["gauss"]["denoise"]["dps"]["trials"]
    best = max(trials, key=lambda trial: trial["psnr"])["options"]
    assert tasks.settings("dps", "denoise", "gauss", held) == best
    assert float(tasks.sampler("dps", "denoise", "gauss", table=held).zeta) == np.float32(best["zeta"])
    assert "ddnm" in held["gauss"]["denoise"]
    with pytest.raises(ValueError, match="dps on denoise with gauss"):
        tasks.settings("mmps", "denoise", "gauss", held)


@pytest.mark.parametrize(
    ("method", "task", "expected"),
    [
        ("dps", "dps/sr4", {"zeta": 0.3}),
        ("dps", "dps/inpaint_random_92", {"zeta": 0.5}),
        ("daps", "daps/hdr", {"tau": 0.00707, "step_size": 2e-5}),
        ("daps", "daps/phase_retrieval", {"tau": 0.00707, "step_size": 5e-5}),
        ("diffpir", "study/inpainting", {"lam": 0.25, "zeta": 1.0}),
        ("dps", "ddrm/sr8", {"zeta": 0.3}),
        ("daps", "phase_retrieval", {"tau": 0.01414, "step_size": 5e-5}),
        ("diffpir", "diffpir/inpaint_box", {"lam": 0.25, "zeta": 1.0}),
        ("dps", "jaxdiff/demosaic", {"zeta": 0.5}),
    ],
)
def test_published_tasks_have_the_settings_of_their_family(method, task, expected):
    """As METHODS lists them; phase retrieval on [-1, 1] has twice the derivative of DAPS's own on [0, 1]."""
    assert tasks.settings(method, task) == expected


def test_what_another_search_writes_meanwhile_is_kept(search, prior, tmp_path):
    path = tmp_path / "settings.json"

    def meanwhile(count):
        held = tuning.read_settings(path) if path.exists() else {}
        held.setdefault("other", {}).setdefault("denoise", {})["ddrm"] = {"eta": 0.5}
        tuning.write_settings(path, held)

    names = {"task": "denoise", "prior": "exact", "noise_std": 0.3, "source": "drawn"}
    tuning.tune(path, search, prior, budget=2, report=meanwhile, **names)
    held = tuning.read_settings(path)
    assert held["other"]["denoise"]["ddrm"] == {"eta": 0.5}
    assert search.method in held["exact"]["denoise"]


def test_other_images_are_another_search(search, prior, tmp_path):
    path = tmp_path / "settings.json"
    tune(path, search, prior, **options_of(path, budget=2))
    before = read_settings(path)["provenance"]["gauss"]["denoise"]["dps"]
    tune(path, search._replace(truths=-search.truths), prior, **options_of(path, budget=2))
    after = read_settings(path)["provenance"]["gauss"]["denoise"]["dps"]
    assert before["pixels"] != after["pixels"]
    assert before["trials"] != after["trials"]


@pytest.mark.slow
def test_the_number_of_seeds_is_recorded_where_there_are_several(search, prior, tmp_path):
    """One seed is not named, so that what was recorded before is still known; two are another search, and back."""
    path, options = tmp_path / "settings.json", options_of(None, budget=2)

    def record(seeds):
        tune(path, search._replace(seeds=seeds), prior, **options)
        return read_settings(path)["provenance"]["gauss"]["denoise"]["dps"]

    one, two, again = record(1), record(2), record(1)
    assert "seeds" not in one
    assert two["seeds"] == 2
    assert one["trials"] != two["trials"]
    assert again == one


TRAILS = [
    json.dumps({"provenance": trail})
    for trail in (
        [],
        {"faces64": {"denoise": {"dps": None}}},
        {"faces64": {"denoise": {"dps": {"trials": [{"options": {}}]}}}},
    )
]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", json.dumps({"faces64": {"denoise": 3}}), json.dumps({"a": [1]}), *TRAILS]
)
def test_damaged_settings_are_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="jaxdiff tune"):
        read_settings(path)


@pytest.mark.parametrize(
    "figure", ["30", [30], {"mean": 30}, True, float("nan"), float("inf"), 1e9, -1.0], ids=lambda value: repr(value)
)
def test_figures_that_no_search_writes_are_refused_by_name(search, prior, tmp_path, figure):
    """A forged or damaged trial must neither win nor end in a traceback."""
    path = tmp_path / "settings.json"
    tune(path, search, prior, **options_of(path, budget=2))
    held = json.loads(path.read_text("utf-8"))
    held["provenance"]["gauss"]["denoise"]["dps"]["trials"][0]["psnr"] = figure
    path.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(ValueError, match=r"settings\.json .*jaxdiff tune"):
        tune(path, search, prior, **options_of(path, budget=2))


def test_images_too_small_for_a_metric_are_refused_before_anything_runs(search, prior, tmp_path):
    small = search._replace(truths=search.truths[:, :8, :8])
    for metric in ("ssim", "lpips"):
        with pytest.raises(ValueError, match=f"too small for {metric.upper()}; choose by psnr\\."):
            tune(tmp_path / "settings.json", small, prior, **options_of(None, metric=metric))


def test_every_method_has_a_space_of_its_own_options():
    for method in METHODS.values():
        assert method.kind.search, method.name
        for trial in proposals(method.kind.search, 6, 0, {}):
            method(**trial)


def test_proposals_cover_the_range_begin_with_the_first_and_extend():
    space = {"a": Log(0.01, 10.0), "b": Linear(0.0, 1.0), "c": Choice((1, 2, 3))}
    some = proposals(space, 20, 0, {"a": 7.0})
    assert some[0] == {"a": 7.0}
    assert proposals(space, 40, 0, {"a": 7.0})[:20] == some
    assert proposals(space, 20, 1, {"a": 7.0})[1:] != some[1:]
    a, b = np.log10([trial["a"] for trial in some[1:]]), np.array([trial["b"] for trial in some[1:]])
    for share in ((a + 2) / 3, b):
        assert np.histogram(share, 4, (0, 1))[0].min() >= 3, "a quasi-random sequence leaves no quarter empty"
    assert {trial["c"] for trial in some[1:]} == {1, 2, 3}
    with pytest.raises(ValueError, match="budget"):
        proposals(space, 0, 0, {})


CALLS = {
    "sdedit": (1, 0),
    "dps": (1, 1),
    "tmpd": (1, 2),
    "mmps": (1, 2),
    "repaint": (1, 0),
    "sitcom": (31, 30),
    "pnp_dm": (20, 0),
    "pnp_flow": (5, 0),
    "annealed_langevin": (3, 0),
    "daps": (5, 0),
    "tds": (16, 16),
    "fps": (16, 0),
}


@pytest.mark.parametrize("method", sorted(CALLS))
def test_network_calls_are_those_of_the_papers(prior, method):
    """The counts that each method's docstring takes from its paper."""
    sampler, (forward, backward) = METHODS[method](), CALLS[method]
    once = method == "annealed_langevin"  # which denoises at the end of a run
    assert network_calls.calls_of(sampler, 7)[:2] == (7 * forward + once, 7 * backward)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("calls", [40, 200])
def test_a_run_within_a_number_of_calls_stays_within(prior, method, calls):
    sampler = METHODS[method]()
    grid = network_calls.grid_within(sampler, prior, calls)
    used = network_calls.calls_of(sampler, len(grid.t)).forward
    assert used <= calls
    if method != "repaint":  # whose runs have few lengths to choose from
        assert network_calls.calls_of(sampler, len(grid.t) + 2).forward > calls


def test_more_calls_than_a_spacing_has_timesteps_give_its_longest_run(prior):
    total = prior.schedule.num_steps
    sampler = METHODS["diffpir"]()
    grid = network_calls.grid_within(sampler, prior, total)

    def repeats(steps):
        times = np.minimum(np.sqrt(np.linspace(0, total**2, steps)).astype(int), total - 1)
        return len(set(times)) < steps

    assert len(grid.t) > total / 2
    assert not repeats(len(grid.t))
    assert repeats(len(grid.t) + 1)
