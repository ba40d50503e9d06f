import jax
import numpy as np
import pytest

from jaxdiff import tasks
from tests.support.tiers import fast_only


@pytest.mark.parametrize("name", sorted(tasks.names("default")))
@pytest.mark.parametrize("size", fast_only([32], [32, 64]))
def test_every_task_can_be_built_and_measured(name, size):
    operator = tasks.get(name, (size, size, 3), jax.random.key(0)).operator
    image = jax.random.uniform(jax.random.key(1), (size, size, 3), minval=-1)
    assert np.isfinite(operator(image)).all()


@pytest.mark.parametrize("task", sorted(tasks.names("default")))
@pytest.mark.parametrize("method", ["sdedit", "score_ald", "dps"])
def test_settings_are_options_of_the_method(task, method):
    for prior in ("faces64", "somebody's"):
        sampler = tasks.sampler(method, task, prior)
        assert callable(sampler.step)


def test_options_override_settings():
    assert tasks.sampler("dps", "inpaint_box", zeta=0.123).zeta == np.float32(0.123)


def test_published_scales_of_dps():
    """configs/*_config.yaml of the original: 0.3 for blur, 0.5 for inpainting."""
    assert tasks.settings("dps", "gaussian_blur", None)["zeta"] == 0.3
    assert tasks.settings("dps", "inpaint_box", None)["zeta"] == 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tasks.get_task("gausian_blur"), ["gausian_blur", "'gaussian_blur'"]),
        (lambda: tasks.sampler("repant", "denoise"), ["repant", "'repaint'"]),
        (lambda: tasks.sampler("dps", "denoise", nosuch=1), ["dps", "nosuch"]),
        (lambda: tasks.sampler("dsp", "denoise"), ["dsp", "Did you mean 'dps'"]),
        (lambda: tasks.sampler("math:pi", "denoise"), ["math:pi", "no method"]),
        (lambda: tasks.sampler("builtins:object", "denoise"), ["builtins:object", "no sampler"]),
        (lambda: tasks.sampler("math:cos", "denoise"), ["math:cos", "must be a function that returns a sampler"]),
    ],
)
def test_unknown_names_list_the_known_and_the_nearest(call, words):
    with pytest.raises(ValueError, match=words[0]) as error:
        call()
    assert all(word in str(error.value) for word in words)
