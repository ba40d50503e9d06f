"""A network with its schedule as a denoiser D(x_t, t) → (x̂₀, ε̂, log-variance), and as D(x; σ)."""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import check_range
from jaxdiff._summary import Summarised
from jaxdiff.models.preconditioning import Preconditioning
from jaxdiff.schedules import Level, NoiseSchedule, level_of_sigma
from jaxdiff.typing import Array, PyTree, Shape, static

__all__ = ["PREDICTIONS", "VARIANCES", "Denoiser", "DenoiserLike", "Prediction", "noise_label"]

PREDICTIONS = ("eps", "x0", *diffusion.SIGMA_DATA)
VARIANCES = ("fixed_small", "fixed_large", "learned", "learned_range")


class Prediction(NamedTuple):
    """The result of one call of a denoiser, for one image.

    Attributes:
        x0: E[x₀ | x_t], clipped to [-1, 1] if the denoiser clips.
        eps: the network's estimate of the noise, before any clipping.
        log_variance: logarithm of the variance of the reverse step, [H, W, C]. It is learned, or the fixed one of the
            training. If it is None, a transition takes the variance of the posterior.
    """

    x0: Array
    eps: Array
    log_variance: Array | None


class DenoiserLike(Protocol):
    """What a sampler needs of a prior."""

    schedule: NoiseSchedule

    @property
    def image_shape(self) -> Shape:
        """(H, W, C) of the images that the prior draws."""
        ...

    def __call__(self, x_t: Array, t: Array, s: Array | None = None) -> Prediction:
        """Denoise one image."""
        ...


@struct.dataclass
class Denoiser(Summarised):
    """A diffusion network, with its noise schedule and the meaning of its output.

    ``denoiser(x_t, t)`` takes one image [H, W, C] and an integer or fractional t. It does not compile again for new
    parameters, schedules or labels of the same shapes.

    Attributes:
        params: the network's parameters.
        schedule: ᾱ of the training process.
        label: class label of a class-conditional network, else None.
        module: the linen network, ``module.apply({"params": params}, x [N, H, W, C], t [N]) → [N, H, W, C or 2C]``.
        image_shape: (H, W, C) of the training images. The network takes other sizes, too, if its depth divides them.
        prediction: what the network's output means: "eps", "x0", "v" (= √ᾱ ε − √(1−ᾱ) x₀) or "edm"
            (``diffusion.v_of`` with σ_data = 8).
        variance: "fixed_small", "fixed_large", or how the C extra channels give log σ²: "learned", "learned_range".
        clip: clip x̂₀ to [-1, 1]. As in the original DPS, the gradient of a clipped pixel is 0.
        rescale_timesteps: give the network t · 1000/T.
        preconditioning: how D is computed from a network that receives σ. It replaces ``prediction``. It is None for a
            network that receives t.
    """

    params: PyTree
    schedule: NoiseSchedule
    label: Array | None = None
    module: nn.Module = static(default=None)
    image_shape: Shape = static(default=())
    prediction: str = static(default="eps")
    variance: str = static(default="fixed_small")
    clip: bool = static(default=True)
    rescale_timesteps: bool = static(default=False)
    preconditioning: Preconditioning | None = static(default=None)

    @property
    def name(self) -> str:
        """The name of an embedded prior, under which settings and best methods are recorded. For other priors it is empty."""
        return getattr(self.module, "name", None) or ""

    def __call__(self, x_t: Array, t: Array, s: Array | None = None) -> Prediction:
        """Denoise one image at timestep t; ``s`` (default t−1) is the time that a learned variance is meant for.

        Args:
            x_t: [H, W, C], the noisy image.
            t: timestep in 0 … T−1.
            s: the next timestep, −1 for the clean image.

        Returns:
            The prediction for this image.

        Raises:
            ValueError: if ``x_t`` is not one image, if the network cannot take its size, or if a learned variance is missing.
        """
        _check_image(x_t)
        t = jnp.asarray(t)
        level = self.schedule.at(t)
        if self.preconditioning is None:
            x0, eps, values = self._by_timestep(x_t, t, level)
        else:
            signal, sigma = level.signal.astype(x_t.dtype), level.sigma.astype(x_t.dtype)
            x0, eps = self._by_sigma(x_t / signal, sigma, self.preconditioning)
            values = x0[..., :0]
        if self.variance.startswith("learned") and values.shape != x_t.shape:
            channels = x_t.shape[-1]
            raise ValueError(
                f"variance={self.variance!r} needs a network of {2 * channels} output channels, and this one has "
                f"{channels + values.shape[-1]}; choose fixed_small or fixed_large."
            )
        if self.clip:
            x0 = jnp.clip(x0, -1, 1)
        s = t - 1 if s is None else jnp.asarray(s)
        return Prediction(x0, eps, jnp.broadcast_to(self._log_variance(values, t, s), x_t.shape).astype(x_t.dtype))

    def lean(self) -> "Denoiser":
        """The same prior with less memory: if the network supports it, its layers are computed twice."""
        return self.replace(module=self.module.clone(remat=True)) if hasattr(self.module, "remat") else self  # type: ignore[attr-defined]

    def denoise(self, x: Array, sigma: Array) -> Array:
        """D(x; σ) = E[x₀ | x] of x = x₀ + σ z on [-1, 1], without clipping.

        A network with discrete timesteps receives the fractional timestep whose level is σ. x_t is √ᾱ x with ᾱ = 1/(1+σ²).

        Args:
            x: [H, W, C], one image.
            sigma: the noise level, a positive number.

        Returns:
            [H, W, C].

        Raises:
            ValueError: if ``x`` is not one image, the network cannot take its size, or ``sigma`` is no positive number.
        """
        _check_image(x)
        check_range("sigma", sigma, 0, open_low=True)
        sigma = jnp.asarray(sigma, x.dtype)
        if self.preconditioning is not None:
            return self._by_sigma(x, sigma, self.preconditioning)[0]
        level = Level(1 / (1 + sigma**2), sigma**2 / (1 + sigma**2))
        return self._by_timestep(x * level.signal, level_of_sigma(self.schedule, sigma).t, level)[0]

    def _by_timestep(self, x_t: Array, t: Array, level: Level) -> tuple[Array, Array, Array]:
        """x̂₀, ε̂ and further channels of a network that is told t."""
        seen = t
        if self.rescale_timesteps:
            seen = t.astype(jnp.float32) * (1000.0 / self.schedule.num_steps)
        output = self._network(x_t, seen)
        channels = x_t.shape[-1]
        return *diffusion.x0_and_eps(self.prediction, x_t, output[..., :channels], level), output[..., channels:]

    def _by_sigma(self, x: Array, sigma: Array, form: Preconditioning) -> tuple[Array, Array]:
        """D(x; σ) = c_skip x + c_out F(c_in x, c_noise(σ)) and ε̂ = (x − D)/σ, without that cancellation."""
        inside, level = form.inward(x, sigma)
        c = form.scalings(level)
        output = self._network(c.into * inside, noise_label(form, self.schedule, sigma))[..., : x.shape[-1]]
        return form.outward(c.skip * inside + c.out * output), c.eps_skip * inside - c.eps_out * output

    def _network(self, x_t: Array, label: Array) -> Array:
        labels: dict[str, Any] = {} if self.label is None else {"y": jnp.asarray(self.label)[None]}
        output: Any = self.module.apply({"params": self.params}, x_t[None], label[None], **labels)
        return output[0].astype(x_t.dtype)

    def _log_variance(self, values: Array, t: Array, s: Array) -> Array:
        if self.variance == "learned":
            return values
        if self.variance == "learned_range":
            return diffusion.learned_range_log_variance(values, self.schedule, t, s)
        if self.variance == "fixed_large":
            return diffusion.fixed_large_log_variance(self.schedule, t, s).reshape(1, 1, 1)
        if self.variance != "fixed_small":
            raise ValueError(
                f"unknown variance {self.variance!r}; choose learned, learned_range, fixed_small or fixed_large."
            )
        return diffusion.posterior_log_variance(self.schedule, t, s).reshape(1, 1, 1)


def noise_label(form: Preconditioning, schedule: NoiseSchedule, sigma: Array) -> Array:
    """What a network receives for σ on [-1, 1]: c_noise(σ), or a timestep of the schedule. −1 is the clean image."""
    if not form.by_schedule:
        return form.label_of(form.inward(sigma, sigma)[1])
    if form.label == "timestep":
        return level_of_sigma(schedule, sigma).t * form.label_scale
    table = jnp.sqrt(schedule.one_minus_alpha_bar / schedule.alpha_bar)
    table = jnp.concatenate([jnp.zeros_like(table[:1]), table])
    return (jnp.argmin(jnp.abs(table - sigma)) - 1).astype(jnp.float32) * form.label_scale


def _check_image(x: Array) -> None:
    if x.ndim != 3:
        raise ValueError(f"a denoiser takes one image [H, W, C], got shape {x.shape}; use jax.vmap for a batch.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"a denoiser takes floating-point values in [-1, 1], got {x.dtype}.")
