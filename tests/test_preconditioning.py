"""Each form of a denoiser by the textbook: an exact Gaussian prior behind each preconditioning, and labels in float64."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import denoisers, operators, samplers, schedules
from jaxdiff.denoisers import Denoiser, Preconditioning, from_function
from jaxdiff.models import PriorConfig, SongConfig, UNetConfig
from jaxdiff.models.preconditioning import FORMS
from jaxdiff.models.prior import SCHEDULES
from tests.support.networks import tiny_denoiser
from tests.support.tiers import fast_only

SHAPE = (4, 4, 3)
MEAN, SPREAD = 0.2, 0.4
DATA, LOWEST = 0.5, 0.002
SIGMAS = (0.002, 0.05, 0.7, 5.0, 80.0)


def textbook(form, s):
    """c_skip, c_out, c_in as the papers print them."""
    n = jnp.sqrt(s**2 + DATA**2)
    vp = 1 / jnp.sqrt(1 + s**2)
    above = s - LOWEST
    a = 2 / (jnp.sqrt(s**2 + 4) + s)  # the positive root of 1 − a² = s a, without its cancellation
    return {
        "eps": (1, -s, vp),
        "x0": (0, 1, vp),
        "v": (DATA**2 / n**2, -s * DATA / n, vp),
        "edm": (DATA**2 / n**2, s * DATA / n, 1 / n),
        "consistency": (DATA**2 / (above**2 + DATA**2), above * DATA / n, 1 / n),
        "ve": (1, s, 1),
        "score": (1, s**2, 1),
        "subvp": (1, -s, a),
        "flow": (1 / (1 + s), -s / (1 + s), 1 / (1 + s)),
        "flow_to_data": (1 / (1 + s), s / (1 + s), 1 / (1 + s)),
        "denoised": (0, 1, 1),
    }[form]


def posterior_mean(x, sigma, mean=MEAN, spread=SPREAD):
    return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)


def gaussian(form, data_range=(-1, 1)):
    """The network that makes a Gaussian prior exact behind a form; it is told σ."""
    unit = data_range[0] == 0
    mean, spread = ((MEAN + 1) / 2, SPREAD / 2) if unit else (MEAN, SPREAD)

    def network(params, x, sigma):
        del params
        sigma = sigma.reshape(-1, 1, 1, 1)
        skip, out, into = textbook(form, sigma)
        x = x / into
        return (posterior_mean(x, sigma, mean, spread) - skip * x) / out

    levels = schedules.karras(200, sigma_min=0.003, sigma_max=80)
    outside = Preconditioning(form, "sigma", data_range, sigma_data=DATA, sigma_min=LOWEST)
    return from_function(network, (), schedule=levels, image_shape=SHAPE, preconditioning=outside, clip=False)


RANGES = [(form, data_range) for form in FORMS for data_range in ((-1, 1), (0, 1))]


@pytest.mark.parametrize(("form", "data_range"), fast_only([("edm", (-1, 1)), ("ve", (0, 1))], RANGES))
def test_an_exact_gaussian_is_denoised_exactly_behind_every_form(form, data_range):
    denoiser = gaussian(form, data_range)
    noise = jax.random.normal(jax.random.key(0), SHAPE)
    denoise = jax.jit(lambda x, s: denoiser.denoise(x, s))
    for sigma in SIGMAS:
        # On [0, 1] σ is half as large, so that the consistency form is the identity at 2 σ_min.
        if form == "consistency" and sigma <= 2 * LOWEST:
            continue
        x = 0.3 + sigma * noise
        # Forms that subtract σ F from x lose digits in proportion to σ.
        np.testing.assert_allclose(denoise(x, sigma), posterior_mean(x, sigma), atol=2e-6 * (1 + sigma))


@pytest.mark.parametrize("form", fast_only(["consistency"], list(FORMS)))
def test_the_call_by_timestep_follows_from_x_t_over_the_signal(form):
    denoiser = gaussian(form)
    exact = denoisers.gaussian_prior(jnp.full(SHAPE, MEAN), SPREAD**2 * jnp.eye(48), denoiser.schedule)
    x_t = jax.random.normal(jax.random.key(1), SHAPE)
    call = jax.jit(lambda d, t: d(x_t, t))
    for t in (jnp.int32(40), jnp.float32(77.3), jnp.int32(150)):
        found, wanted = call(denoiser, t), call(exact, t)
        sigma = float(denoiser.schedule.at(t).sigma)
        np.testing.assert_allclose(found.x0, wanted.x0, atol=2e-6 * (1 + sigma) ** 2)
        # ε is not a difference of nearly equal numbers: it is right at small σ too, where (x − D)/σ would not be.
        np.testing.assert_allclose(found.eps, wanted.eps, atol=1e-4 if form in ("x0", "denoised") else 1e-5, rtol=1e-3)


def test_labels_are_the_textbooks_to_float32_even_where_they_cancel():
    sigma = np.array(SIGMAS, np.float64)
    d, least = 19.9, 0.1
    times = (np.sqrt(least**2 + 2 * d * np.log1p(sigma**2)) - least) / d
    a = (np.sqrt(sigma**2 + 4) - sigma) / 2
    sub = (np.sqrt(least**2 - 4 * d * np.log(a)) - least) / d
    expected = {
        "edm": np.log(sigma) / 4,
        "consistency": 250 * np.log(sigma),
        "log_sigma": np.log(sigma),
        "log_half_sigma": np.log(sigma / 2),
        "sigma": sigma,
        "vp": 999 * times,
        "subvp": 999 * sub,
        "log_vp": np.log(999 * times),
        "log_subvp": np.log(999 * sub),
        "flow": sigma / (1 + sigma),
        "flow_to_data": 1 / (1 + sigma),
    }
    for label, value in expected.items():
        found = Preconditioning("eps", label).label_of(jnp.asarray(sigma, jnp.float32))
        np.testing.assert_allclose(found, value, rtol=2e-5 if label == "vp" else 2e-6, atol=1e-6, err_msg=label)
    assert abs(999 * times[0] - 0.03980) < 1e-5
    geometric = Preconditioning("ve", "geometric", levels=11, sigma_range=(0.1, 10.0))
    np.testing.assert_array_equal(geometric.label_of(jnp.array([10.0, 1.0, 0.1])), [0, 5, 10])


def test_the_levels_of_iddpm_are_the_cosine_schedule_and_the_nearest_is_taken():
    u = np.zeros(1001)
    bar = np.sin(0.5 * np.pi * np.arange(1001) / 1000 / 1.008) ** 2
    for j in range(1000, 0, -1):
        u[j - 1] = np.sqrt((u[j] ** 2 + 1) / max(bar[j - 1] / bar[j], 0.001) - 1)
    schedule = schedules.cosine(1000)
    levels = np.sqrt(np.asarray(schedule.one_minus_alpha_bar) / np.asarray(schedule.alpha_bar))
    np.testing.assert_allclose(levels, u[999::-1], rtol=2e-5)
    seen = from_function(
        lambda p, x, t: jnp.broadcast_to(t.reshape(-1, 1, 1, 1), x.shape),
        (),
        schedule=schedule,
        image_shape=SHAPE,
        preconditioning=Preconditioning("denoised", "nearest"),
    )
    for sigma in (0.002, 0.05, 0.5, 5.0, 80.0, 30_000.0):
        wanted = 999 - np.argmin(np.abs(u - sigma))
        assert float(seen.denoise(jnp.zeros(SHAPE), sigma)[0, 0, 0]) == wanted


def test_a_network_of_timesteps_denoises_at_any_level_between_them():
    net = tiny_denoiser(SHAPE, schedules.linear(100), clip=False)
    x = jax.random.normal(jax.random.key(2), SHAPE)
    for t in (3.0, 41.5, 90.0):
        level = net.schedule.at(jnp.float32(t))
        np.testing.assert_allclose(
            net.denoise(x, level.sigma), net(x * level.signal, jnp.float32(t)).x0, atol=2e-5, rtol=2e-5
        )


@dataclasses.dataclass(frozen=True)
class AsEDM:
    """The F of EDM's form that a network of timesteps amounts to."""

    net: Callable

    def __call__(self, params, x, c_noise):
        sigma = jnp.exp(4 * c_noise).reshape(-1, 1, 1, 1)
        skip, out, into = textbook("edm", sigma)
        x = x / into
        return (jax.vmap(lambda x, s: params.denoise(x, s))(x, sigma[:, 0, 0, 0]) - skip * x) / out


@pytest.mark.slow
def test_dps_gives_the_same_image_whether_the_network_is_written_as_vp_or_as_edm():
    vp = tiny_denoiser((8, 8, 1), schedules.linear(50), clip=True)
    edm = from_function(
        AsEDM(None),
        vp,
        schedule=vp.schedule,
        image_shape=(8, 8, 1),
        preconditioning=Preconditioning("edm", "edm"),
        clip=True,
    )
    truth = jnp.tanh(jax.random.normal(jax.random.key(3), (8, 8, 1)))
    problem = jd.observe(jax.random.key(4), operators.inpaint_box(image_shape=(8, 8, 1), size=4), truth, 0.05)
    first, second = (jd.sample(jax.random.key(5), d, problem, samplers.dps(), steps=10)[0] for d in (vp, edm))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_descriptions_are_read_back_and_old_ones_too():
    song = PriorConfig(
        SongConfig(),
        "karras",
        variance="fixed_small",
        schedule_range=(0.002, 80),
        preconditioning=Preconditioning("edm", "edm"),
    )
    assert PriorConfig.from_dict(song.to_dict()) == song
    assert song.network == "song"
    old = PriorConfig(UNetConfig(), variance="fixed_small").to_dict()
    for name in ("network", "schedule_range", "preconditioning"):
        del old[name]
    assert PriorConfig.from_dict(old) == PriorConfig(UNetConfig(), variance="fixed_small")
    for change, message in (
        ({"network": "u"}, "there is no network"),
        ({"more": 1}, "exactly the fields"),
        ({"schedule_range": [2, 1]}, "the smaller first"),
        ({"preconditioning": {"form": "a"}}, "form must be one of"),
        ({"preconditioning": {"label": "a"}}, "label must be one of"),
        ({"preconditioning": {"x": 1}}, "a preconditioning has no x"),
        ({"preconditioning": {"data_range": [0, 255]}}, "data_range must be"),
        ({"variance": "learned"}, "no learned variance"),
    ):
        with pytest.raises(ValueError, match=message):
            PriorConfig.from_dict(song.to_dict() | change)
    with pytest.raises(ValueError, match="family song"):
        _ = song.adm
    for name in SCHEDULES:
        assert schedules.named(name, 30).num_steps == 30


def test_schedules_by_sigma_cover_their_range():
    for make in (schedules.karras, schedules.geometric):
        sigma = make(1000, sigma_min=0.02, sigma_max=696.0)
        values = np.sqrt(np.asarray(sigma.one_minus_alpha_bar) / np.asarray(sigma.alpha_bar))
        np.testing.assert_allclose(values[[0, -1]], [0.02, 696], rtol=1e-6)
    with pytest.raises(ValueError, match="increase"):
        schedules.from_sigmas(np.array([2.0, 1.0]))
    assert isinstance(gaussian("edm"), Denoiser)
