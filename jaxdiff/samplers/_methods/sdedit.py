"""SDEdit (Meng et al. 2022, Algorithm 1): add noise to the measurement, then denoise.

SDEdit uses the measurement only as the start of the run. It adds some noise to it, and then follows the prior alone. More
noise makes the result more realistic, and less like the measurement.

x_y     ← y, or A⁺y where y is no picture
x_start ← √ᾱ x_y + √(1−ᾱ) z
for t from start to 0:
    x_s ← the step of the prior from x_t
"""

from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count, number
from jaxdiff.noise import NoiseModel
from jaxdiff.numerics import normal
from jaxdiff.operators.base import LinearOperator
from jaxdiff.problems import Problem
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import GuidedSampler, State, image_shape_of
from jaxdiff.samplers.ranges import Log
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition

__all__ = ["SDEdit", "sdedit"]


@struct.dataclass
class SDEdit(GuidedSampler):
    """x_start = √ᾱ x_y + √(1−ᾱ) z from the measurement's picture x_y. Then the run follows the prior alone.

    x_y is y itself if it has the shape of an image, and the pseudo-inverse A⁺y if not. A larger ``start`` gives a more
    realistic result that is less like y.

    Reference: Meng et al. 2022, Algorithm 1, without its masks and with one pass (theirs: K = 3 passes).
    """

    title = "SDEdit"
    takes = NoiseModel  # the noise plays no part
    search = {"start": Log(50, 700, whole=True)}

    def check(self, problem: Problem) -> None:
        """It needs a picture to begin with."""
        operator = problem.operator
        if problem.y.shape != tuple(operator.image_shape) and not isinstance(operator, LinearOperator):
            raise ValueError(
                f"SDEdit needs an image-shaped measurement or a pseudo-inverse; {type(operator).__name__} "
                "has neither. Use a guided method such as dps."
            )

    def begin(self, at: Step) -> State:
        """Noise the measurement's picture to time t."""
        shape = image_shape_of(at.problem, at.denoiser)
        guess = at.problem.y
        if guess.shape != shape:
            guess = at.operator.pinv(guess)
        guess = guess.astype(at.denoiser.schedule.alpha_bar.dtype)
        return State(diffusion.q_sample(guess, normal(at.randomness, shape, guess.dtype), at.level_t))


@register(SDEdit)
def sdedit(
    *,
    start: int | None = None,
    strength: float | None = None,
    num_train_steps: int = 1000,
    transition: Transition | GuidedSampler | None = None,
) -> SDEdit:
    """SDEdit from ``start`` forward steps, or from ``strength`` = start / T in (0, 1].

    Args:
        start: N, the number of timesteps whose noise is added (500 by default, at most T). The run goes through the timesteps
            of the grid below N, from the largest on.
        strength: the same as a fraction of ``num_train_steps``.
        num_train_steps: T of the schedule, if you give ``strength``.
        transition: the step of the prior; DDPM by default.

    Raises:
        ValueError: if both are given, or they are out of range.
    """
    if start is not None and strength is not None:
        raise ValueError("give start or strength to sdedit, not both.")
    if strength is not None:
        number("strength", strength, high=1.0, open_low=True)
        start = max(1, round(float(strength) * count("num_train_steps", num_train_steps)))
    start = 500 if start is None else count("start, in forward steps,", start)
    return SDEdit(transition=transition_of(transition), start=start)
