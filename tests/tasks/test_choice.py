"""The default method: what is recorded counts, else what won with published settings; never what fits nothing."""

import jax
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import operators, tasks
from jaxdiff.network_calls import calls_of, steps_within
from jaxdiff.noise import NoiseModel
from jaxdiff.samplers import METHODS
from jaxdiff.tasks.choice import default_for, kind_of

SHAPE = (32, 32, 3)
TABLE = {
    "p": {
        "jpeg": [
            {"calls": 100, "method": "b", "options": {}, "network_calls": 30},
            {"calls": 20, "method": "a", "options": {"x": 1}, "network_calls": 20},
        ]
    },
    "published": {
        "jpeg": [{"calls": 20, "method": "c", "options": {}, "network_calls": 20}],
        "SpectralOperator": [{"calls": 20, "method": "d", "options": {}, "network_calls": 20}],
    },
}


def test_the_default_is_the_best_within_the_calls_at_hand():
    assert default_for("jpeg", "p", 50, TABLE)[:2] == ("a", {"x": 1})
    assert default_for("jpeg", "p", 100, TABLE).method == "b"
    assert default_for("jpeg", "p", 250, TABLE).calls == 30, "as many calls as it won with, and no more"
    assert default_for("jpeg", "p", 5, TABLE)[::3] == ("a", 5), "the cheapest known, where none is cheap enough"


def test_what_is_not_recorded_goes_by_family_then_by_kind():
    assert default_for("jaxdiff/jpeg10", "p", 50, TABLE).method == "a", "of its family"
    assert default_for("jpeg", "q", 50, TABLE).method == "c", "with published settings"
    chosen = default_for("denoise", "p", 50, TABLE)
    assert chosen.method == "d"
    assert "singular values" in chosen.why
    assert default_for(operators.denoise(image_shape=SHAPE), "p", 50, TABLE).method == "d"


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_no_prior_without_records_falls_back_to_dps(name):
    """DPS fits nothing in few calls: 11 dB on a blur, where FAST-DIPS has 27."""
    for calls in (1, 20, 99, 100, 1000):
        chosen = default_for(name, "somebody's", calls, image_shape=SHAPE)
        assert chosen.method in {"flower", "pnp_flow", "fast_dips", "diffpir", "mmps", "pigdm", "dsg"}
        assert chosen.calls <= calls
        family = tasks.get_task(name).family
        if f"for {family}" in chosen.why:
            assert chosen.options == tasks.settings(chosen.method, family), "published, not tuned for another prior"


@pytest.mark.parametrize("calls", [1, 20, 100, 1000])
def test_the_default_under_a_noise_model_can_take_it(calls):
    image = np.zeros(SHAPE, np.float32)
    problem = jd.observe(jax.random.key(0), operators.denoise(image_shape=SHAPE), image, jd.noise.poisson())
    asked = [(problem, None), ("dps/sr4_poisson", None), ("jpeg", jd.noise.salt_and_pepper())]
    for task, model in asked:
        chosen = default_for(task, "faces64", calls, noise=model)
        assert METHODS[chosen.method].kind.takes is NoiseModel
        assert chosen.calls <= calls
    assert default_for("jpeg", "faces64", calls) == default_for("jpeg", "faces64", calls, noise=0.1)


def test_kinds_of_operators():
    """What a method may ask: singular values of a blur, the adjoint of a varying blur, and values alone of a JPEG."""
    assert kind_of("gaussian_blur") is operators.SpectralOperator
    assert kind_of("jaxdiff/varying_blur") is operators.LinearOperator
    assert kind_of("jpeg") is operators.Operator
    with pytest.raises(ValueError, match="is no task"):
        kind_of(3)


def test_best_is_what_restore_takes_and_can_be_run(tiny):
    found = tasks.best("gaussian_blur", tiny, calls=20)
    assert found.method == default_for("gaussian_blur", "", 20).method
    prior = tiny
    assert found.steps == steps_within(found.sampler, prior, found.calls)
    assert found.calls == calls_of(found.sampler, found.steps).forward <= 20
    assert found.why.startswith(found.method)
    assert found.why.endswith(".")
    setup = tasks.get("gaussian_blur", SHAPE)
    problem = jd.observe(jax.random.key(0), setup.operator, np.zeros(SHAPE, np.float32), 0.05)
    x, _ = jd.sample(jax.random.key(1), tiny, problem, found.sampler, steps=found.steps)
    assert np.isfinite(x).all()
    ours = tasks.best(problem, tiny, calls=20)
    assert ours.method == "flower"
    assert "settings are the published ones" in ours.why
    with pytest.raises(ValueError, match="calls must be an integer of at least 1"):
        tasks.best("jpeg", tiny, calls=0)


def test_an_embedded_prior_has_its_own_records():
    prior = jd.load_denoiser("faces64")
    assert prior.name == "faces64"
    found = tasks.best("inpaint_box", prior, calls=20)
    assert found.method == "mmps"
    assert "with faces64" in found.why
    assert float(found.sampler.zeta) == pytest.approx(1.432)
    assert tasks.best("dps/inpaint_box", prior, calls=20).why == found.why


def test_gaussian_noise_is_its_sigma():
    named = default_for("gaussian_blur", "faces64", 20, noise=jd.noise.gaussian(0.05))
    assert named == default_for("gaussian_blur", "faces64", 20, noise=0.05)
    found = tasks.settings("dps", "gaussian_blur", "faces64", noise=jd.noise.gaussian(0.05))
    assert found == tasks.settings("dps", "gaussian_blur", "faces64", noise=0.05)
