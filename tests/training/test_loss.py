"""Losses against closed forms, numerical integrals and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxdiff import diffusion, schedules
from jaxdiff.denoisers import Prediction
from jaxdiff.models.preconditioning import FORMS, Preconditioning
from jaxdiff.training import loop
from jaxdiff.training import state as state_module
from jaxdiff.training.config import Teacher
from jaxdiff.training.levels import log_normal_timesteps, spread_timesteps
from jaxdiff.training.loss import (
    _log_likelihood_8bit,
    denoising_loss,
    loss_weight,
    preconditioned_loss,
    target,
    taught,
    vlb_term,
)
from jaxdiff.training.state import batch_loss, init_state, schedule_of

SHAPE = (4, 4, 3)


def _draws(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-0.9, 0.9, SHAPE), dtype), jnp.asarray(rng.standard_normal(SHAPE), dtype)


@pytest.mark.parametrize("t", [0, 30, 70, 99])
def test_min_snr_weighs_the_error_of_x0_alike_for_every_prediction(t):
    with jax.enable_x64(True):
        schedule, (x0, noise) = schedules.linear(100), _draws()
        level = schedule.at(jnp.asarray(t))
        x_t = diffusion.q_sample(x0, noise, level)
        guess = x0 + 0.1 * noise
        outputs = {
            "x0": guess,
            "eps": diffusion.eps_from_x0(x_t, guess, level),
            "v": diffusion.v_from_x0(x_t, guess, level),
            "edm": diffusion.v_from_x0(x_t, guess, level, diffusion.SIGMA_DATA["edm"]),
        }
        losses = [
            denoising_loss(out, x0, noise, jnp.asarray(t), schedule, prediction=kind, weighting="min_snr").total
            for kind, out in outputs.items()
        ]
        snr = float(level.alpha_bar) / float(level.one_minus_alpha_bar)
        expected = min(snr, 5.0) * float(jnp.mean((guess - x0) ** 2))
        np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("t", [0, 400, 999])
def test_min_snr_with_a_floor_of_one_and_no_cap_is_the_simple_loss_of_v(t):
    level = schedules.linear(1000).at(jnp.asarray(t))
    np.testing.assert_allclose(loss_weight("min_snr", "v", level, 1e9, 1.0), 1.0, rtol=1e-5)
    snr = float(level.alpha_bar) / float(level.one_minus_alpha_bar)
    np.testing.assert_allclose(loss_weight("min_snr", "x0", level, 20.0, 0.1), min(snr + 0.1, 20.0), rtol=1e-5)


@pytest.mark.parametrize("t", [5, 300, 700])
def test_the_best_linear_answer_to_a_taught_target_mixes_posterior_mean_and_teacher(t):
    # x₀ ~ N(0, s²): E[x₀ | x_t] = c x_t. The teacher answers 0.8 c x_t.
    schedule, rng, s = schedules.linear(1000), np.random.default_rng(t), 0.5
    level = schedule.at(jnp.asarray(t))
    alpha, rest = float(level.alpha_bar), float(level.one_minus_alpha_bar)
    best = alpha**0.5 * s**2 / (alpha * s**2 + rest)
    x0 = jnp.asarray(s * rng.standard_normal((400, 400, 1)), jnp.float32)
    noise = jnp.asarray(rng.standard_normal(x0.shape), jnp.float32)
    x_t = diffusion.q_sample(x0, noise, level)
    aim, noise_aim = taught(x0, x_t, 0.8 * best * x_t, level, 0.6)
    part = 0.6 * (alpha / rest) / (alpha / rest + 0.03)
    fitted = float(jnp.vdot(x_t, aim) / jnp.vdot(x_t, x_t))
    noise_of_fit = s * rest**0.5 / (alpha * s**2 + rest) / 400  # standard error of a regression on 160,000 pixels
    assert fitted == pytest.approx(best * (1 - 0.2 * part), abs=4 * noise_of_fit)
    # The new pair explains the same noisy image.
    np.testing.assert_allclose(diffusion.q_sample(aim, noise_aim, level), x_t, atol=2e-5)
    untouched, _ = taught(x0, x_t, 0.8 * best * x_t, level, 0.0)
    np.testing.assert_array_equal(untouched, x0)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm"])
def test_target_is_what_conversion_takes_back(prediction):
    schedule, (x0, noise) = schedules.cosine(50), _draws(dtype=np.float32)
    level = schedule.at(jnp.asarray(20))
    x_t = diffusion.q_sample(x0, noise, level)
    wanted = target(prediction, x0, noise, level)
    np.testing.assert_allclose(diffusion.x0_and_eps(prediction, x_t, wanted, level)[0], x0, atol=1e-5)
    loss = denoising_loss(wanted, x0, noise, jnp.asarray(20), schedule, prediction=prediction)
    assert float(loss.total) == 0.0


def test_simple_weight_is_one_and_simple_loss_is_the_mean_square():
    schedule, (x0, noise) = schedules.linear(100), _draws(dtype=np.float32)
    loss = denoising_loss(jnp.zeros(SHAPE), x0, noise, jnp.asarray(3), schedule)
    np.testing.assert_allclose(loss.total, np.mean(np.square(noise)), rtol=1e-6)
    assert float(loss_weight("simple", "v", schedule.at(jnp.asarray(3)), 5.0)) == 1.0


def test_vlb_of_the_true_posterior_is_zero():
    schedule, (x0, noise) = schedules.linear(100), _draws(dtype=np.float32)
    t = jnp.asarray(40)
    x_t = diffusion.q_sample(x0, noise, schedule.at(t))
    log_variance = jnp.full(SHAPE, diffusion.posterior_log_variance(schedule, t, t - 1))
    np.testing.assert_allclose(vlb_term(schedule, x0, x_t, x0, log_variance, t), 0.0, atol=1e-6)


@pytest.mark.slow
def test_vlb_is_the_integral_of_the_divergence():
    with jax.enable_x64(True):
        schedule, t = schedules.linear(100), jnp.asarray(40)
        x0, x_t, guess, log_variance = (jnp.full((1, 1, 1), v) for v in (0.3, -0.2, 0.6, -4.0))
        q = diffusion.posterior_coefficients(schedule.at(t), schedule.at(t - 1))
        means = [float(q.x0_weight * v + q.xt_weight * -0.2) for v in (0.3, 0.6)]
        p_q = scipy.stats.norm(means[0], float(q.variance) ** 0.5)
        p_p = scipy.stats.norm(means[1], np.exp(-2.0))
        low, high = p_q.interval(1 - 1e-14)
        kl, _ = scipy.integrate.quad(lambda z: p_q.pdf(z) * (p_q.logpdf(z) - p_p.logpdf(z)), low, high)
        np.testing.assert_allclose(vlb_term(schedule, x0, x_t, guess, log_variance, t), kl / np.log(2), rtol=1e-5)


@pytest.mark.parametrize(("mean", "log_std"), [(0.1, -1.0), (-1.3, -2.0), (0.99, -3.0), (0.5, 0.5)])
def test_8bit_likelihood_sums_to_one(mean, log_std):
    values = jnp.linspace(-1, 1, 256)
    logs = _log_likelihood_8bit(values, jnp.full(256, mean), jnp.full(256, log_std))
    np.testing.assert_allclose(np.exp(np.asarray(logs, np.float64)).sum(), 1.0, rtol=2e-3)
    inner = scipy.stats.norm.cdf((values + 1 / 255 - mean) / np.exp(log_std)) - scipy.stats.norm.cdf(
        (values - 1 / 255 - mean) / np.exp(log_std)
    )
    near = np.asarray(inner) > 1e-4
    near[[0, -1]] = False
    np.testing.assert_allclose(np.exp(logs)[near], inner[near], rtol=5e-3)


@pytest.mark.slow
def test_8bit_likelihood_far_away_is_finite_with_a_finite_gradient():
    def total(mean, log_std):
        x = jnp.asarray([-1.0, -0.5, 0.0, 0.5, 1.0])
        return _log_likelihood_8bit(x, jnp.full(5, mean), jnp.full(5, log_std)).sum()

    for mean, log_std in [(5.0, -4.0), (-5.0, -4.0), (0.0, -9.0), (0.0, 4.0)]:
        value, slopes = jax.value_and_grad(total, (0, 1))(mean, log_std)
        assert np.isfinite(value)
        assert np.isfinite(slopes).all()


@pytest.mark.slow
def test_hybrid_loss_leaves_the_mean_to_the_squared_error():
    schedule, (x0, noise) = schedules.linear(100), _draws(dtype=np.float32)
    output = jnp.concatenate([noise + 0.1, jnp.zeros(SHAPE)], -1)
    options = {"variance": "learned_range", "vlb_weight": 0.01}

    def total(output, weight=0.01):
        return denoising_loss(output, x0, noise, jnp.asarray(50), schedule, **options | {"vlb_weight": weight}).total

    slope, without = jax.grad(total)(output), jax.grad(lambda o: total(o, 0.0))(output)
    np.testing.assert_allclose(slope[..., :3], without[..., :3])
    assert np.abs(slope[..., 3:]).max() > 0
    assert np.abs(without[..., 3:]).max() == 0
    loss = denoising_loss(output, x0, noise, jnp.asarray(50), schedule, **options)
    np.testing.assert_allclose(loss.total, loss.mse + 0.01 * 100 * loss.vlb, rtol=1e-6)


@pytest.mark.slow
def test_gradient_of_the_loss_by_finite_differences():
    with jax.enable_x64(True):
        schedule, (x0, noise) = schedules.linear(100), _draws()
        output = jnp.concatenate([noise + 0.1, 0.5 * x0], -1)
        direction = jnp.asarray(np.random.default_rng(1).standard_normal(output.shape))

        @partial(jax.jit, static_argnums=2)
        def loss(output, t, prediction, vlb_weight=0.001):
            return denoising_loss(
                output,
                x0,
                noise,
                t,
                schedule,
                prediction=prediction,
                variance="learned_range",
                weighting="min_snr",
                vlb_weight=vlb_weight,
            ).total

        for t, prediction in ((0, "eps"), (1, "v"), (60, "x0"), (99, "eps")):
            slope = jax.jit(jax.grad(loss), static_argnums=2)(output, t, prediction)
            # The bound stops its gradient at the mean: difference it along the variance, the squared error along both.
            for along, scale in ((direction.at[..., :3].set(0), 1.0), (direction.at[..., 3:].set(0), 0.0)):

                def f(out, t=t, prediction=prediction, scale=scale):
                    return loss(out, t, prediction, 0.001 * scale)

                numeric = (f(output + 1e-5 * along) - f(output - 1e-5 * along)) / 2e-5
                np.testing.assert_allclose(jnp.vdot(slope, along), numeric, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_gradient_of_the_batch_loss_by_finite_differences(tiny, monkeypatch, small_network):
    monkeypatch.setattr(state_module, "network", lambda config: small_network(config).clone(dtype=jnp.float64))
    config = tiny()
    rng = np.random.default_rng(0)
    # The batch is float32 by definition and the network here float64: let them mix.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = init_state(config).params
        # Away from the zero-initialised head, where most gradients vanish.
        params = jax.tree.map(lambda p: jnp.asarray(p + 0.1 * rng.standard_normal(p.shape), jnp.float64), params)
        direction = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)
        batch = {"image": jnp.asarray(rng.integers(0, 256, (2, 8, 8, 3)), jnp.uint8), "index": jnp.arange(2)}
        schedule, key = schedule_of(config.prior), jax.random.key(0)
        loss = jax.jit(lambda p: batch_loss(p, batch, config, schedule, key).total.mean())
        slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.jit(jax.grad(loss))(params), direction)))
        step = 1e-6
        ahead, behind = (loss(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (step, -step))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-5)


@pytest.mark.slow
def test_a_teacher_that_knows_the_images_is_the_target(tiny, monkeypatch, small_network):
    """With share 1 and a teacher that answers with the clean image, the loss is that of no teacher but for λ < 1."""
    monkeypatch.setattr(state_module, "network", small_network)
    config = tiny(prior__prediction="v", loss__teachers=(Teacher("of no file"),), loss__teacher_share=1.0)
    params, schedule, key = init_state(config).params, schedule_of(config.prior), jax.random.key(0)
    image = jnp.full((4, 8, 8, 3), 200, jnp.uint8)
    batch = {"image": image, "index": jnp.arange(4, dtype=jnp.uint32)}
    clean = image[0].astype(jnp.float32) / 127.5 - 1

    def teacher(offset):
        return lambda x_t, t: Prediction(clean + offset, x_t, None)

    alone = batch_loss(params, batch, config, schedule, key)
    same = batch_loss(params, batch, config, schedule, key, [teacher(0.0)])
    np.testing.assert_allclose(same.total, alone.total, rtol=1e-4, atol=1e-6)
    moved = batch_loss(params, batch, config, schedule, key, [teacher(0.5)])
    assert float(jnp.abs(moved.total - alone.total).min()) > 1e-4


@pytest.mark.parametrize("mirror", [True, False])
def test_teachers_share_a_batch_and_every_other_image_is_seen_in_a_mirror(mirror):
    rng = np.random.default_rng(0)
    x_t, t = jnp.asarray(rng.standard_normal((8, 4, 6, 3)), jnp.float32), jnp.arange(8)
    ramp = jnp.arange(6, dtype=jnp.float32)[:, None]  # each answer depends on the side, and on the timestep

    def teacher(scale):
        return lambda x, t: Prediction(scale * x + ramp + t, x, None)

    answers = state_module._ask([teacher(1.0), teacher(10.0)], x_t, t, mirror=mirror)
    for i in range(8):
        turned = mirror and i in (2, 3, 6, 7)
        expected = (1.0, 10.0)[i % 2] * x_t[i] + (ramp[::-1] if turned else ramp) + i
        np.testing.assert_allclose(answers[i], expected, rtol=1e-5)


def test_a_teacher_is_asked_at_its_timesteps_only(tiny):
    teachers = (Teacher("a"), Teacher("b", (10, 30)))
    first, count = state_module._times_of_teachers(tiny(loss__teachers=teachers), 400)
    t = first + spread_timesteps(jax.random.key(0), jnp.arange(400, dtype=jnp.uint32), count)
    assert set(np.asarray(t[::2]).tolist()) == set(range(100))
    assert set(np.asarray(t[1::2]).tolist()) == set(range(10, 30))
    first, count = state_module._times_of_teachers(tiny(), 3)
    assert (first.tolist(), count.tolist()) == ([0, 0, 0], [100, 100, 100])


@pytest.mark.slow
def test_strict_types(tiny):
    config = tiny(prior__variance="learned_range", prior__unet__out_channels=6, dtype="bfloat16")
    params = jax.eval_shape(lambda: init_state(config).params)
    image, index = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8), jax.ShapeDtypeStruct((2,), jnp.uint32)

    def gradient(params, image, index):
        batch, schedule = {"image": image, "index": index}, schedule_of(config.prior)

        def total(params):
            return batch_loss(params, batch, config, schedule, jax.random.key(0)).total.mean()

        return jax.value_and_grad(total)(params)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        loss, slopes = jax.eval_shape(gradient, params, image, index)
    assert loss.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, slopes))} == {"float32"}


EDM = {
    "prior__preconditioning": {"form": "edm", "label": "edm"},
    "prior__schedule": "karras",
    "prior__prediction": "eps",
}


def test_the_simple_loss_of_edm_is_that_of_its_paper():
    rng, sigma, data = np.random.default_rng(1), 0.7, 0.5
    x0, noise, output = (rng.standard_normal((4, 4, 3)) for _ in range(3))
    x = x0 + sigma * noise
    skip, out = data**2 / (sigma**2 + data**2), sigma * data / np.sqrt(sigma**2 + data**2)
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    paper = weight * np.mean((skip * x + out * output - x0) ** 2)
    arrays = [jnp.asarray(a, jnp.float32) for a in (output, x0, x, sigma)]
    np.testing.assert_allclose(preconditioned_loss(*arrays, Preconditioning("edm", "edm")).total, paper, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("data_range", [(-1, 1), (0, 1)])
def test_min_snr_weighs_the_error_of_the_image_whatever_the_form(form, data_range):
    rng, of = np.random.default_rng(2), Preconditioning(form, "sigma", data_range=data_range)
    x0, x, output = (jnp.asarray(rng.standard_normal((4, 4, 3)), jnp.float32) for _ in range(3))
    for sigma in (0.3, 2.0):
        inside, level = of.inward(x, jnp.asarray(sigma))
        c = of.scalings(level)
        error = np.mean((of.outward(c.skip * inside + c.out * output) - x0) ** 2)
        found = preconditioned_loss(
            output, x0, x, jnp.asarray(sigma), of, weighting="min_snr", min_snr_gamma=5.0, min_snr_floor=0.1
        )
        np.testing.assert_allclose(found.total, min(1 / sigma**2 + 0.1, 5.0) * error, rtol=1e-4)


@pytest.mark.slow
def test_a_network_that_is_told_sigma_learns_what_its_denoiser_will_give(tiny, monkeypatch, small_network):
    monkeypatch.setattr(state_module, "network", small_network)
    monkeypatch.setattr(loop, "network", small_network)
    config = tiny(**EDM, loss__levels="log_normal", loss__weighting="min_snr")
    params, schedule, key = init_state(config).params, schedule_of(config.prior), jax.random.key(3)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)), jnp.uint8)
    index = jnp.arange(4, dtype=jnp.uint32)
    found = batch_loss(params, {"image": images, "index": index}, config, schedule, key)
    t = log_normal_timesteps(jax.random.fold_in(key, 3), index, schedule, -1.2, 1.2)
    denoiser = loop.denoiser_of(config, params)
    for i in range(4):
        x0 = images[i].astype(jnp.float32) / 127.5 - 1
        noise = jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, 1), index[i]), x0.shape)
        sigma = schedule.at(t[i]).sigma
        error = jnp.mean((denoiser.denoise(x0 + sigma * noise, sigma) - x0) ** 2)
        np.testing.assert_allclose(found.total[i], jnp.minimum(1 / sigma**2, 5.0) * error, rtol=1e-3)


@pytest.mark.slow
def test_log_normal_levels_have_their_mean_and_deviation_in_any_stretch():
    schedule = schedules.karras(100, sigma_min=1e-4, sigma_max=1e4)
    for first in (0, 12345):
        index = jnp.arange(first, first + 500, dtype=jnp.uint32)
        log_sigma = jnp.log(
            jax.vmap(schedule.at)(log_normal_timesteps(jax.random.key(1), index, schedule, -1.2, 1.2)).sigma
        )
        np.testing.assert_allclose([log_sigma.mean(), log_sigma.std()], [-1.2, 1.2], atol=0.03)
    narrow = log_normal_timesteps(
        jax.random.key(1), index, schedules.karras(10, sigma_min=0.2, sigma_max=0.4), -1.2, 1.2
    )
    assert float(narrow.min()) == 0.0
    assert float(narrow.max()) == 9.0
