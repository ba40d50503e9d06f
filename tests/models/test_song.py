"""The network of DDPM and NCSN++: its parameters, types, memory option, derivatives and refusals (parity: test_families)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from benchmarks.parity_families import GOLDEN
from jaxdiff.models import NETWORKS, Song, SongConfig, module_of, parameter_shapes
from jaxdiff.models.layers import FREQUENCIES, sinusoids
from jaxdiff.models.resampling import convolve_then_halve, double_by, double_then_convolve, halve_by
from jaxdiff.models.song import Fourier

BASE = {
    "image_size": 16,
    "stem_channels": 8,
    "channels": (8, 16),
    "num_res_blocks": 1,
    "attend_down": (1,),
    "attend_up": (1,),
    "noise_channels": 8,
    "embedding_channels": 16,
    "downsample": ("res",),
    "upsample": ("res",),
}
FIR = (1.0, 3.0, 3.0, 1.0)
VARIANTS = {
    "ddpm": {"downsample": ("conv",), "upsample": ("conv",), "downsample_padding": 0, "resample_filter": ()},
    "ncsnpp": {"input_pyramid": "skip", "output_pyramid": "skip", "resample_filter": FIR, "embedding": "fourier"},
    "cat": {"input_pyramid": "skip", "combine": "cat", "activation": "elu"},
    "residual": {"input_pyramid": "residual", "output_pyramid": "residual", "resample_filter": FIR},
    "residual_plain": {"input_pyramid": "residual", "output_pyramid": "residual", "resample_filter": ()},
    "fused": {"downsample": ("conv",), "upsample": ("conv",), "resample_filter": FIR},
    "no_time": {"embedding": "none", "middle": "plain"},
    "classes": {"num_classes": 3},
    "film": {"num_classes": 3, "label_place": "embedding", "scale_shift": True, "middle_groups": 0, "head_channels": 8},
}


def made(name, **changes):
    config = SongConfig(**BASE | VARIANTS[name] | changes)
    random, flat = np.random.default_rng(0), {}
    for n, s in parameter_shapes(config).items():
        v = random.standard_normal(s).astype(np.float32) / np.float32(max(1, np.prod(s[:-1])) ** 0.5)
        flat[n] = 1 + np.float32(0.1) * v if n.endswith("scale") else v
    return config, traverse_util.unflatten_dict(flat, sep="/")


def inputs(height=16, width=8):
    return jax.random.normal(jax.random.key(1), (2, height, width, 3)), jnp.array([0.3, 2.0])


@partial(jax.jit, static_argnums=0)
def applied(module, params, x, t):
    """One program: op by op, every operation is compiled by itself."""
    return module.apply({"params": params}, x, t)


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes_are_those_that_the_network_makes(name):
    config = SongConfig(**BASE | VARIANTS[name])
    variables = jax.eval_shape(Song(config).init, jax.random.key(0), *inputs())
    made_by = {k: v.shape for k, v in traverse_util.flatten_dict(variables["params"], sep="/").items()}
    assert made_by == parameter_shapes(config)
    assert SongConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("name", ["ncsnpp", pytest.param("fused", marks=pytest.mark.slow)])
def test_remat_is_the_same_and_bfloat16_is_near(name):
    config, params = made(name)
    x, t = inputs()
    plain = applied(Song(config), params, x, t)
    np.testing.assert_allclose(applied(Song(config, remat=True), params, x, t), plain, rtol=1e-5, atol=1e-5)
    half = applied(module_of(config, jnp.bfloat16), params, x, t)
    assert half.dtype == jnp.float32
    assert np.linalg.norm(half - plain) < 0.1 * np.linalg.norm(plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_derivatives_are_finite_differences_and_each_others_transpose(name):
    with jax.enable_x64(True):
        config, params = made(name)
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        x, t = (jnp.asarray(a, jnp.float64) for a in inputs())
        x, t = x[:1], t[:1]

        @jax.jit
        def apply(x):
            return Song(config, jnp.float64).apply({"params": params}, x, t)

        u, v = (jax.random.normal(jax.random.key(i), x.shape, jnp.float64) for i in (2, 3))
        out, tangent = jax.jvp(apply, (x,), (u,))
        assert out.shape == x.shape
        h = 1e-5
        np.testing.assert_allclose(tangent, (apply(x + h * u) - apply(x - h * u)) / (2 * h), rtol=1e-5, atol=1e-6)
        (pulled,) = jax.vjp(apply, x)[1](v)
        np.testing.assert_allclose(jnp.vdot(pulled, u), jnp.vdot(v, tangent), rtol=1e-10)


def upfirdn(x, taps, up=1, down=1, pad=(0, 0)):
    """The filter by its definition, one row of one channel."""
    spread = np.zeros(len(x) * up)
    spread[::up] = x
    spread = np.concatenate([np.zeros(pad[0]), spread, np.zeros(pad[1])])
    return np.convolve(spread, np.asarray(taps)[::-1], "valid")[::down]


@pytest.mark.parametrize("taps", [(1.0, 1.0), FIR, (1.0, 2.0, 4.0, 4.0, 2.0, 1.0)])
def test_filters_are_upfirdn(taps):
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(2, 8))
    x = jnp.asarray(np.outer(rows, columns)[None, :, :, None], jnp.float32)
    p, f = len(taps) - 2, np.asarray(taps) / np.sum(taps)
    down = [upfirdn(v, f, down=2, pad=((p + 1) // 2, p // 2)) for v in (rows, columns)]
    np.testing.assert_allclose(halve_by(x, taps)[0, :, :, 0], np.outer(*down), atol=1e-6)
    up = [upfirdn(v, 2 * f, up=2, pad=((p + 1) // 2 + 1, p // 2)) for v in (rows, columns)]
    np.testing.assert_allclose(double_by(x, taps)[0, :, :, 0], np.outer(*up), atol=1e-6)


@pytest.mark.parametrize("taps", [(1.0, 1.0), FIR])
def test_fused_convolutions_are_the_filter_and_the_convolution(taps):
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 3))
    full = jnp.pad(x, ((0, 0), (8, 8), (8, 8), (0, 0)))

    def convolved(x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    # Far from borders nothing is cut off, so that fused and apart are the same there, and shifts would show.
    apart = halve_by(convolved(full), taps)[:, 4:-4, 4:-4]
    np.testing.assert_allclose(convolve_then_halve(x, kernel, taps), apart, atol=1e-5)
    apart = convolved(double_by(full, taps))[:, 16:-16, 16:-16]
    np.testing.assert_allclose(double_then_convolve(x, kernel, taps), apart, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ()}, "1 to 16 levels"),
        ({"channels": (8, 30), "group_channels": 1}, "norm groups do not divide"),
        ({"image_size": 9}, "cannot be halved 1 times"),
        ({"downsample": ()}, "downsample must say res, conv or plain 1 times"),
        ({"attend_down": (5,)}, "attend_down must list levels"),
        ({"resample_filter": (1, 2)}, "symmetric with an even number"),
        ({"activation": "sine"}, "activation must be one of"),
        ({"stem_channels": 0}, "stem_channels must be a positive whole number"),
        ({"sin_first": 1}, "sin_first must be true or false"),
        ({"epsilon": 0}, "epsilon must be a positive number"),
        ({"embedding": "none", "scale_shift": True}, "needs an embedding"),
        ({"num_heads": 3}, "cannot be split into 3 heads"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SongConfig(**BASE | changes)


def test_inputs_that_do_not_fit_are_refused():
    config, params = made("film", null_label=False)
    x, t = inputs()
    with pytest.raises(ValueError, match="needs labels"):
        Song(config).apply({"params": params}, x, t)
    with pytest.raises(ValueError, match="multiples of 2"):
        Song(config).apply({"params": params}, x[:, :15], t, jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="has no depth"):
        SongConfig.from_dict({"depth": 2})
    assert set(NETWORKS) == {"adm", "song"}


@pytest.mark.parametrize("code", FREQUENCIES)
def test_features_of_the_noise_label_are_those_of_each_code_to_the_last_digits(code):
    with np.load(GOLDEN / "features.npz") as file:
        recorded = dict(file)
    timesteps, log_sigmas = jnp.array([0.25, 17.0, 250.25, 999.0]), jnp.array([-3.0, 0.7, 3.9])
    params = {"params": {"frequencies": recorded["frequencies"]}}
    for name in (name for name in recorded if name.startswith(code)):
        if name.endswith("fourier"):
            found = Fourier(32, True, code).apply(params, log_sigmas)
        else:
            dim, shift = map(int, name.split()[1:])
            found = sinusoids(timesteps, dim, shift=shift, sin_first=True, rounding=code)
        # A phase of 999 moves a feature by 3e-5 where its frequency's last digit differs, as one in 64 does: torch's own
        # power and exponential are not rounded correctly. With frequencies of float64 one in 20 differs.
        far = np.abs(np.asarray(found) - recorded[name]) > 1e-6
        assert np.mean(far) <= 0.01, name
