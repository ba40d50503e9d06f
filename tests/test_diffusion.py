import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion, schedules
from jaxdiff.schedules import Level


def exact(schedule_betas):
    """ᾱ and 1 − ᾱ in float64."""
    log = np.cumsum(np.log1p(-schedule_betas))
    return np.exp(log), -np.expm1(log)


@pytest.mark.parametrize(("t", "s"), [(999, 998), (999, 0), (500, 480), (60, 59), (1, 0), (10, -1), (0, -1)])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_posterior_between_any_two_times_against_float64(name, t, s):
    alpha_bar, rest = exact(getattr(schedules, f"{name}_betas")(1000))
    a_t, r_t = alpha_bar[t], rest[t]
    a_s, r_s = (1.0, 0.0) if s < 0 else (alpha_bar[s], rest[s])
    beta = (r_t - r_s) / a_s if a_t > 0.5 else 1 - a_t / a_s
    schedule = getattr(schedules, name)(1000)
    found = diffusion.posterior_coefficients(schedule.at(jnp.int32(t)), schedule.at(jnp.int32(s)))
    np.testing.assert_allclose(found.x0_weight, np.sqrt(a_s) * beta / r_t, rtol=3e-5)
    np.testing.assert_allclose(found.xt_weight, np.sqrt(a_t / a_s) * r_s / r_t, rtol=3e-6, atol=1e-12)
    np.testing.assert_allclose(found.variance, beta * r_s / r_t, rtol=3e-5, atol=1e-12)


def test_posterior_is_bayes_rule():
    """q(x_s | x_t, x₀) from the product of Gaussians q(x_t | x_s) q(x_s | x₀)."""
    schedule = schedules.linear()
    level_t, level_s = schedule.at(jnp.int32(700)), schedule.at(jnp.int32(300))
    ratio = float(level_t.alpha_bar / level_s.alpha_bar)
    precision = ratio / (1 - ratio) + 1 / float(level_s.one_minus_alpha_bar)
    found = diffusion.posterior_coefficients(level_t, level_s)
    np.testing.assert_allclose(found.variance, 1 / precision, rtol=1e-5)
    np.testing.assert_allclose(found.xt_weight, ratio**0.5 / (1 - ratio) / precision, rtol=1e-5)
    mean = float(level_s.alpha_bar) ** 0.5 / float(level_s.one_minus_alpha_bar) / precision
    np.testing.assert_allclose(found.x0_weight, mean, rtol=1e-5)


def test_conversions_invert_each_other():
    level = schedules.linear().at(jnp.int32(400))
    x0, eps = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    x_t = diffusion.q_sample(x0, eps, level)
    v = jnp.sqrt(level.alpha_bar) * eps - jnp.sqrt(level.one_minus_alpha_bar) * x0
    score = diffusion.score_from_eps(eps, level)
    for found, expected in (
        (diffusion.x0_from_eps(x_t, eps, level), x0),
        (diffusion.eps_from_x0(x_t, x0, level), eps),
        (diffusion.v_from_x0(x_t, x0, level), v),
        (diffusion.x0_from_v(x_t, v, level), x0),
        (diffusion.eps_from_v(x_t, v, level), eps),
        (diffusion.tweedie(x_t, score, level), x0),
        (diffusion.eps_from_score(score, level), eps),
    ):
        np.testing.assert_allclose(found, expected, atol=3e-6)


@pytest.mark.parametrize("t", [0, 250, 600, 999])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 8.0])
def test_preconditioning_is_edms(t, sigma_data):
    """Karras et al. 2022, table 1: D(x̃; σ) = c_skip x̃ + c_out F with x̃ = x_t/√ᾱ; our F has the sign of ε."""
    level = schedules.linear().at(jnp.int32(t))
    x0, eps = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    x_t = diffusion.q_sample(x0, eps, level)
    target = diffusion.v_of(x0, eps, level, sigma_data)
    signal = float(level.alpha_bar) ** 0.5
    sigma = float(level.one_minus_alpha_bar) ** 0.5 / signal
    skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    out = sigma * sigma_data / (sigma**2 + sigma_data**2) ** 0.5
    other = np.asarray(x_t, np.float64) / signal
    np.testing.assert_allclose(skip * other - out * target, x0, atol=1e-4)
    some = jax.random.normal(jax.random.key(1), x0.shape)
    found = diffusion.x0_from_v(x_t, some, level, sigma_data)
    np.testing.assert_allclose(found, skip * other - out * some, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        diffusion.q_sample(found, diffusion.eps_from_v(x_t, some, level, sigma_data), level), x_t, atol=1e-4
    )
    np.testing.assert_allclose(diffusion.v_from_x0(x_t, x0, level, sigma_data), target, atol=1e-4)


def test_learned_range_runs_from_posterior_to_beta():
    schedule = schedules.linear()
    t, s = jnp.int32(500), jnp.int32(450)
    low, high = (diffusion.learned_range_log_variance(jnp.full((1, 1, 1), v), schedule, t, s) for v in (-1.0, 1.0))
    levels = schedule.at(t), schedule.at(s)
    np.testing.assert_allclose(jnp.exp(low).item(), diffusion.posterior_coefficients(*levels).variance, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(high).item(), diffusion.beta_between(*levels), rtol=1e-5)


def test_the_last_step_has_a_finite_log_variance():
    schedule = schedules.linear()
    found = diffusion.posterior_log_variance(schedule, jnp.int32(0), jnp.int32(-1))
    expected = diffusion.posterior_coefficients(schedule.at(jnp.int32(1)), schedule.at(jnp.int32(0))).variance
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-6)


def test_forward_process_has_its_mean_and_variance():
    level = Level(jnp.float32(0.3), jnp.float32(0.7))
    noise = jax.random.normal(jax.random.key(0), (20000, 1, 1))
    x_t = diffusion.q_sample(jnp.full((20000, 1, 1), 2.0), noise, level)
    assert abs(x_t.mean() - 2 * 0.3**0.5) < 4 * 0.7**0.5 / 20000**0.5
    assert abs(x_t.var() - 0.7) < 4 * 0.7 * (2 / 20000) ** 0.5
