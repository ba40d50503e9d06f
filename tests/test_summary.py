"""What a person at a prompt sees: short texts for objects, and public names alone in completion."""

import base64
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

import jaxdiff as jd
from jaxdiff.files import to_uint8
from jaxdiff.samplers.posterior import Posterior

SHAPE = (16, 16, 3)


def things():
    operator = jd.operators.gaussian_blur(image_shape=SHAPE)
    prior = jd.denoisers.gaussian_prior(jnp.zeros((2, 2, 1)), jnp.eye(4), jd.schedules.linear(20))
    return {
        "Separable": operator,
        "Problem": jd.observe(jax.random.key(0), operator, jnp.zeros(SHAPE), 0.25),
        "Denoiser": jd.load_denoiser("faces64"),
        "GaussianPrior": prior,
        "DPS": jd.samplers.dps(zeta=0.125),
    }


def test_no_array_is_printed_and_numbers_are():
    texts = {name: repr(thing) for name, thing in things().items()}
    for name, text in texts.items():
        assert text.startswith(f"{name}("), text
        assert "Array(" not in text
        assert "\n" not in text
        assert len(text) < 500, text
    assert "noise_std=0.25" in texts["Problem"]
    assert "y=float32[16,16,3]" in texts["Problem"]
    assert "zeta=0.125" in texts["DPS"]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(things()["Denoiser"].params))
    assert f"{parameters:,} numbers" in texts["Denoiser"]


def test_draws_and_what_a_program_traces_are_printed_alike():
    draws = jnp.zeros((2, *SHAPE))
    whole = Posterior(draws, draws[0], draws[0], None)
    assert repr(whole) == "Posterior(samples=float32[2,16,16,3], mean=float32[16,16,3], std=float32[16,16,3])"
    seen = []
    jax.jit(lambda problem: seen.append(repr(problem)) or 0)(things()["Problem"])
    assert "noise_std=float32[]" in seen[0]


@pytest.mark.parametrize("module", ["denoisers", "diffusion", "operators", "plots", "samplers", "schedules"])
def test_completion_offers_public_names(module):
    found = getattr(jd, module)
    assert dir(found) == sorted(found.__all__)


def test_a_notebook_shows_fields_in_a_table_and_a_problem_its_measurement():
    for name, thing in things().items():
        page = thing._repr_html_()
        assert page.count("<table>") == page.count("</table>") >= 1
        assert f"<b>{name}</b>" in page
        assert "Array(" not in page
        assert len(page) < 20_000
    problem = things()["Problem"]
    head, _, code = problem._repr_html_().partition('src="data:image/png;base64,')
    assert head.startswith("<img")
    shown = np.asarray(PILImage.open(io.BytesIO(base64.b64decode(code.partition('"')[0]))))
    np.testing.assert_array_equal(shown, to_uint8(np.asarray(problem.operator.view(problem.y))))
    assert "<details><summary>Separable</summary>" in problem._repr_html_()
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), problem)
    assert "<img" not in several._repr_html_()
