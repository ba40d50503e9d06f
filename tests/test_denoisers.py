import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import denoisers, diffusion, schedules

SCHEDULE = schedules.linear(1000)


class Constant(nn.Module):
    """A network whose output is a parameter, whatever comes in; it also shows the time that it was given."""

    channels: int = 3

    @nn.compact
    def __call__(self, x, t, y=None):
        value = self.param("value", nn.initializers.ones_init(), (self.channels,))
        return jnp.broadcast_to(value, (*x.shape[:-1], self.channels)) + 0 * t.astype(x.dtype).reshape(-1, 1, 1, 1)


class ShowTime(nn.Module):
    @nn.compact
    def __call__(self, x, t, y=None):
        return jnp.broadcast_to(t.astype(x.dtype).reshape(-1, 1, 1, 1), x.shape)


def constant(**options):
    channels = options.pop("channels", 3)
    params = {"value": jnp.arange(channels, dtype=jnp.float32) / 4}
    options = {"module": Constant(channels), "image_shape": (4, 4, 3), "clip": False, **options}
    return denoisers.Denoiser(params, SCHEDULE, **options)


def test_each_prediction_type_gives_consistent_x0_and_eps():
    x_t = jax.random.normal(jax.random.key(0), (4, 4, 3))
    level = SCHEDULE.at(jnp.int32(300))
    for kind in denoisers.PREDICTIONS:
        found = constant(prediction=kind)(x_t, jnp.int32(300))
        np.testing.assert_allclose(diffusion.q_sample(found.x0, found.eps, level), x_t, atol=1e-5, err_msg=kind)
    value = jnp.broadcast_to(jnp.arange(3) / 4, (4, 4, 3))
    np.testing.assert_allclose(constant(prediction="eps")(x_t, jnp.int32(300)).eps, value)
    np.testing.assert_allclose(constant(prediction="x0")(x_t, jnp.int32(300)).x0, value)
    v = constant(prediction="v")(x_t, jnp.int32(300))
    np.testing.assert_allclose(diffusion.v_from_x0(x_t, v.x0, level), value, atol=1e-5)


def test_clipping_is_inside_the_graph():
    denoiser = constant(clip=True)
    x_t = jnp.full((4, 4, 3), 9.0)
    assert np.all(denoiser(x_t, jnp.int32(10)).x0 == 1)
    assert np.all(jax.grad(lambda x: denoiser(x, jnp.int32(10)).x0.sum())(x_t) == 0)


def test_fixed_variances():
    x_t = jnp.zeros((4, 4, 3))
    t, s = jnp.int32(500), jnp.int32(400)
    levels = SCHEDULE.at(t), SCHEDULE.at(s)
    small = constant(variance="fixed_small")(x_t, t, s).log_variance
    large = constant(variance="fixed_large")(x_t, t, s).log_variance
    assert small.shape == large.shape == x_t.shape
    np.testing.assert_allclose(jnp.exp(small[0, 0, 0]), diffusion.posterior_coefficients(*levels).variance, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(large[0, 0, 0]), diffusion.beta_between(*levels), rtol=1e-5)
    last = constant(variance="fixed_large")(x_t, jnp.int32(0), jnp.int32(-1)).log_variance
    assert np.isfinite(last).all()


def test_learned_variance_is_the_extra_channels():
    denoiser = constant(variance="learned", channels=6)
    found = denoiser(jnp.zeros((4, 4, 3)), jnp.int32(500)).log_variance
    np.testing.assert_allclose(found[0, 0], [0.75, 1.0, 1.25])
    with pytest.raises(ValueError, match="needs a network of 6 output channels, and this one has 3"):
        constant(variance="learned_range")(jnp.zeros((4, 4, 3)), jnp.int32(500))


def test_rescaled_timesteps():
    schedule = schedules.linear(4000)
    denoiser = denoisers.Denoiser(
        {}, schedule, module=ShowTime(), image_shape=(2, 2, 1), clip=False, rescale_timesteps=True
    )
    assert denoiser(jnp.zeros((2, 2, 1)), jnp.int32(2000)).eps[0, 0, 0] == 500
    plain = denoiser.replace(rescale_timesteps=False)
    assert plain(jnp.zeros((2, 2, 1)), jnp.int32(2000)).eps[0, 0, 0] == 2000


def test_one_image_at_a_time():
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        constant()(jnp.zeros((2, 4, 4, 3)), jnp.int32(1))


def test_gaussian_prior_is_the_conditional_mean():
    """Against the Gaussian conditional by dense linear algebra in float64."""
    generator = np.random.default_rng(0)
    factor = generator.normal(size=(6, 6))
    covariance, mean = factor @ factor.T + 0.1 * np.eye(6), generator.normal(size=(2, 3, 1))
    prior = denoisers.gaussian_prior(jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32), SCHEDULE)
    x_t = generator.normal(size=(2, 3, 1))
    for t in (0, 300, 999):
        a, r = float(SCHEDULE.alpha_bar[t]), float(SCHEDULE.one_minus_alpha_bar[t])
        gain = np.sqrt(a) * covariance @ np.linalg.inv(a * covariance + r * np.eye(6))
        expected = mean.ravel() + gain @ (x_t.ravel() - np.sqrt(a) * mean.ravel())
        found = prior(jnp.asarray(x_t, jnp.float32), jnp.int32(t)).x0
        np.testing.assert_allclose(found.ravel(), expected, rtol=2e-4, atol=2e-4)


def test_mixture_prior_is_the_score_of_its_density():
    """Tweedie with the gradient of log p(x_t) taken by JAX."""
    prior = denoisers.gaussian_mixture_prior(
        jnp.array([0.2, 0.8]), jax.random.normal(jax.random.key(0), (2, 2, 2, 1)), jnp.array([0.1, 0.5]), SCHEDULE
    )
    level = SCHEDULE.at(jnp.int32(400))

    def log_density(x):
        total = level.alpha_bar * prior.variances + level.one_minus_alpha_bar
        squared = jnp.sum((x[None] - jnp.sqrt(level.alpha_bar) * prior.means) ** 2, axis=(1, 2, 3))
        return jax.scipy.special.logsumexp(jnp.log(prior.weights) - squared / (2 * total) - 2 * jnp.log(total))

    x_t = jax.random.normal(jax.random.key(1), (2, 2, 1))
    expected = diffusion.tweedie(x_t, jax.grad(log_density)(x_t), level)
    np.testing.assert_allclose(prior(x_t, jnp.int32(400)).x0, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: denoisers.gaussian_prior(jnp.zeros((2, 2, 1)), jnp.eye(3), SCHEDULE), r"\[4, 4\]"),
        (
            lambda: denoisers.gaussian_prior(jnp.zeros((2, 1, 1)), jnp.diag(jnp.array([1.0, -1.0])), SCHEDULE),
            "negative",
        ),
        (
            lambda: denoisers.gaussian_mixture_prior(jnp.ones(2), jnp.zeros((3, 1, 1, 1)), jnp.ones(2), SCHEDULE),
            "differs",
        ),
        (
            lambda: denoisers.gaussian_mixture_prior(jnp.zeros(1), jnp.zeros((1, 1, 1, 1)), jnp.ones(1), SCHEDULE),
            "positive",
        ),
        (lambda: denoisers.gaussian_prior(jnp.zeros((1, 1, 2)), jnp.full((2, 2), jnp.nan), SCHEDULE), "finite"),
        (lambda: denoisers.gaussian_prior(jnp.zeros((1, 2)), jnp.eye(2), SCHEDULE), r"image \[H, W, C\]"),
        (
            lambda: denoisers.gaussian_mixture_prior(
                jnp.full(1, jnp.inf), jnp.zeros((1, 1, 1, 1)), jnp.ones(1), SCHEDULE
            ),
            "finite",
        ),
    ],
)
def test_impossible_priors_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_exact_priors_can_be_made_inside_jit():
    gaussian = jax.jit(lambda mean: denoisers.gaussian_prior(mean, jnp.eye(4), SCHEDULE).mean)
    np.testing.assert_array_equal(gaussian(jnp.ones((2, 2, 1))), jnp.ones((2, 2, 1)))
    means, variances = jnp.zeros((2, 2, 2, 1)), jnp.ones(2)
    mixture = jax.grad(lambda w: denoisers.gaussian_mixture_prior(w, means, variances, SCHEDULE).weights[0])
    np.testing.assert_allclose(mixture(jnp.ones(2)), [0.25, -0.25])


def test_a_noise_level_may_be_bfloat16():
    found = constant(prediction="x0").denoise(jnp.zeros((4, 4, 3)), jnp.bfloat16(0.5))
    assert found.shape == (4, 4, 3)
