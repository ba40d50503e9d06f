"""How a network becomes a denoiser: D(x; σ) = c_skip x + c_out F(c_in x, c_noise(σ)), each form as data.

x = x₀ + σ z is the noisy image of the variance-exploding chain. A variance-preserving x_t is √ᾱ_t x with
σ_t = √(1−ᾱ_t)/√ᾱ_t, so every form serves every sampler. ε̂ = (x − D)/σ would cancel at small σ, so each form also gives
(1 − c_skip)/σ and c_out/σ in closed form.

Reference: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022, Table 1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxdiff.typing import Array

__all__ = ["FORMS", "LABELS", "Preconditioning", "Scalings"]

Range = tuple[float, float]


class Scalings(NamedTuple):
    """c_skip, c_out, c_in; and (1 − c_skip)/σ, c_out/σ, which give ε̂ = ``eps_skip`` x − ``eps_out`` F."""

    skip: Array
    out: Array
    into: Array
    eps_skip: Array
    eps_out: Array


@dataclasses.dataclass(frozen=True)
class Preconditioning:
    """What surrounds a network: the meaning of its output, the label of the noise level, and the range of its images.

    Attributes:
        form: a key of ``FORMS``.
        label: a key of ``LABELS``, or one of ``BY_SCHEDULE``: how the network is told σ.
        data_range: values of black and white inside the network, (-1, 1) or (0, 1); σ is scaled alike.
        sigma_data: σ_data of the forms "edm", "consistency" and "v".
        sigma_min: of the form "consistency", whose D is the identity there.
        beta_min: β_min of the labels "vp" and "subvp".
        beta_d: β_max − β_min of these.
        levels: M, the number of training levels of "vp", "subvp" and "geometric".
        sigma_range: (lowest, highest) σ of the label "geometric", on the network's own range.
        label_scale: factor of the label.

    Raises:
        ValueError: if a name is unknown or a number is out of range.
    """

    form: str = "eps"
    label: str = "timestep"
    data_range: Range = (-1.0, 1.0)
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    beta_min: float = 0.1
    beta_d: float = 19.9
    levels: int = 1000
    sigma_range: Range = (0.01, 50.0)
    label_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("data_range", "sigma_range"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or len(value) != 2:
                raise ValueError(f"{name} must be two numbers, got {value!r}.")
            object.__setattr__(self, name, tuple(float(v) if _is_number(v) else v for v in value))
        for name, known in (("form", FORMS), ("label", (*LABELS, *BY_SCHEDULE))):
            if getattr(self, name) not in tuple(known):
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        if self.data_range not in ((-1.0, 1.0), (0.0, 1.0)):
            raise ValueError(f"data_range must be (-1, 1) or (0, 1), got {self.data_range!r}.")
        numbers = {name: getattr(self, name) for name in ("sigma_data", "beta_min", "beta_d", "levels", "label_scale")}
        numbers |= {"sigma_range[0]": self.sigma_range[0], "sigma_range[1]": self.sigma_range[1]}
        for name, value in numbers.items():
            if not _is_number(value) or not 0 < value < 1e9:
                raise ValueError(f"{name} must be a positive number, got {value!r}.")
        if not _is_number(self.sigma_min) or not 0 <= self.sigma_min < 1e9:
            raise ValueError(f"sigma_min must be zero or a positive number, got {self.sigma_min!r}.")

    @property
    def by_schedule(self) -> bool:
        """Whether the label is a timestep of the schedule, not a function of σ alone."""
        return self.label in BY_SCHEDULE

    def scalings(self, sigma: Array) -> Scalings:
        """The coefficients at σ, which is on the network's own range."""
        return FORMS[self.form](sigma, self)

    def label_of(self, sigma: Array) -> Array:
        """c_noise(σ), σ on the network's own range.

        Raises:
            ValueError: if the label is a timestep, which only a schedule can tell.
        """
        if self.by_schedule:
            raise ValueError(f"the label {self.label!r} is of a schedule; ask the denoiser.")
        return LABELS[self.label](sigma, self) * self.label_scale

    def inward(self, x: Array, sigma: Array) -> tuple[Array, Array]:
        """Image and noise level on the network's own range, from those on [-1, 1]."""
        return (x, sigma) if self.data_range[0] < 0 else ((x + 1) / 2, sigma / 2)

    def outward(self, x0: Array) -> Array:
        """A denoised image on [-1, 1], from one on the network's own range."""
        return x0 if self.data_range[0] < 0 else 2 * x0 - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preconditioning":
        """The preconditioning that ``to_dict`` described; what is left out takes its default.

        Raises:
            ValueError: if a name is unknown or a value is of the wrong kind.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or (unknown := sorted(set(values) - known)):
            what = f"no {', '.join(map(str, unknown))}" if isinstance(values, dict) else "named fields only"
            raise ValueError(f"a preconditioning has {what}; its fields are {', '.join(sorted(known))}.")
        return cls(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- forms -----------------------------------------------------------------------------


def _eps(sigma: Array, of: Preconditioning) -> Scalings:
    del of
    one, zero = jnp.ones_like(sigma), jnp.zeros_like(sigma)
    return Scalings(one, -sigma, 1 / jnp.sqrt(1 + sigma**2), zero, -one)


def _x0(sigma: Array, of: Preconditioning) -> Scalings:
    del of
    return Scalings(jnp.zeros_like(sigma), jnp.ones_like(sigma), 1 / jnp.sqrt(1 + sigma**2), 1 / sigma, 1 / sigma)


def _denoised(sigma: Array, of: Preconditioning) -> Scalings:
    return _x0(sigma, of)._replace(into=jnp.ones_like(sigma))


def _edm(sigma: Array, of: Preconditioning) -> Scalings:
    total = sigma**2 + of.sigma_data**2
    root = jnp.sqrt(total)
    out = of.sigma_data / root
    return Scalings(of.sigma_data**2 / total, sigma * out, 1 / root, sigma / total, out)


def _v(sigma: Array, of: Preconditioning) -> Scalings:
    # The target of EDM's form with the other sign; the network sees x_t, of variance one where x₀ has it.
    edm = _edm(sigma, of)
    return edm._replace(out=-edm.out, eps_out=-edm.eps_out, into=1 / jnp.sqrt(1 + sigma**2))


def _consistency(sigma: Array, of: Preconditioning) -> Scalings:
    edm, above = _edm(sigma, of), sigma - of.sigma_min
    total = above**2 + of.sigma_data**2
    return edm._replace(
        skip=of.sigma_data**2 / total,
        out=above * edm.eps_out,
        eps_skip=above * (above / sigma) / total,
        eps_out=above / sigma * edm.eps_out,
    )


def _ve(sigma: Array, of: Preconditioning) -> Scalings:
    del of
    one = jnp.ones_like(sigma)
    return Scalings(one, sigma, one, jnp.zeros_like(sigma), one)


def _score(sigma: Array, of: Preconditioning) -> Scalings:
    return _ve(sigma, of)._replace(out=sigma**2, eps_out=sigma)


def _subvp(sigma: Array, of: Preconditioning) -> Scalings:
    # x_t = a x₀ + (1 − a²) z, so that σ = (1 − a²)/a.
    return _eps(sigma, of)._replace(into=2 / (sigma + jnp.sqrt(sigma**2 + 4)))


def _flow(sigma: Array, of: Preconditioning) -> Scalings:
    # x_t = (1 − t) x₀ + t z and F = z − x₀, so that σ = t/(1 − t) and x̂₀ = x_t − t F.
    del of
    signal = 1 / (1 + sigma)
    return Scalings(signal, -sigma * signal, signal, signal, -signal)


def _flow_to_data(sigma: Array, of: Preconditioning) -> Scalings:
    flow = _flow(sigma, of)
    return flow._replace(out=-flow.out, eps_out=-flow.eps_out)


Form = Callable[[Array, Preconditioning], Scalings]
Label = Callable[[Array, Preconditioning], Array]

FORMS: dict[str, Form] = {
    "eps": _eps,
    "x0": _x0,
    "v": _v,
    "edm": _edm,
    "consistency": _consistency,
    "ve": _ve,
    "score": _score,
    "subvp": _subvp,
    "flow": _flow,
    "flow_to_data": _flow_to_data,
    "denoised": _denoised,
}
"""Coefficients by the meaning of the output F.

eps: the noise, of a variance-preserving network. x0: the image. v: √ᾱ ε − √(1−ᾱ) x₀, more generally with σ_data. edm:
Karras et al. 2022. consistency: the same with D(x; σ_min) = x (Song et al. 2023). ve: −noise. score: ∇ log p. subvp: the
noise of the sub-VP chain. flow: z − x₀ of a straight path. flow_to_data: x₀ − z. denoised: D itself, of x.
"""


# --- labels --------------------------------------------------------------------------------


def _vp_time(log_inverse: Array, of: Preconditioning) -> Array:
    # t of ½ β_d t² + β_min t = log 1/ᾱ. The textbook root −β_min + √… cancels at small σ; this one does not.
    root = jnp.sqrt(of.beta_min**2 + 2 * of.beta_d * log_inverse)
    return (of.levels - 1) * 2 * log_inverse / (root + of.beta_min)


def _subvp_time(sigma: Array, of: Preconditioning) -> Array:
    # a = 2/(σ + √(σ²+4)), log 1/a² = 2 asinh(σ/2).
    return _vp_time(2 * jnp.arcsinh(sigma / 2), of)


def _geometric(sigma: Array, of: Preconditioning) -> Array:
    low, high = of.sigma_range
    where = jnp.log(high / sigma) / jnp.log(high / low)
    return jnp.round(jnp.clip(where, 0, 1) * (of.levels - 1))


LABELS: dict[str, Label] = {
    "edm": lambda sigma, of: jnp.log(sigma) / 4,
    "consistency": lambda sigma, of: 250 * jnp.log(sigma + 1e-44),
    "log_sigma": lambda sigma, of: jnp.log(sigma),
    "log_half_sigma": lambda sigma, of: jnp.log(0.5 * sigma),
    "sigma": lambda sigma, of: sigma,
    "vp": lambda sigma, of: _vp_time(jnp.log1p(sigma**2), of),
    "subvp": _subvp_time,
    "log_vp": lambda sigma, of: jnp.log(_vp_time(jnp.log1p(sigma**2), of)),
    "log_subvp": lambda sigma, of: jnp.log(_subvp_time(sigma, of)),
    "geometric": _geometric,
    "flow": lambda sigma, of: sigma / (1 + sigma),
    "flow_to_data": lambda sigma, of: 1 / (1 + sigma),
}
"""c_noise by name. edm: ¼ ln σ. consistency: 250 ln σ. vp, subvp: (M−1) t(σ) of the continuous chains; log_vp, log_subvp: its
logarithm. geometric: the index in a falling geometric list of M levels. flow: t of a straight path from image to noise;
flow_to_data: 1 − t."""

BY_SCHEDULE = ("timestep", "nearest")
"""Labels that a schedule tells: the fractional timestep of σ, or the nearest whole one (−1 for the clean image)."""
