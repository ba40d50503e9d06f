"""RePaint (Lugmayr et al. 2022, Algorithm 1): known parts come from the noised measurement; the run goes back and forth.

In each step, RePaint takes the measured part of the image from the measurement with noise, and the missing part from the
prior. The run goes back and forth in time, so that both parts agree. It is made for masks, and treats the measurement as
exact.

x_t ← √(ᾱ_t/ᾱ_at) x_at + noise, if the run goes back in time
x̂₀  ← the network's prediction at x_t
x′  ← the step of the prior from x_t
x_s ← x′ + A⁺(√ᾱ_s y + √(1−ᾱ_s) A z − A x′)
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff import diffusion
from jaxdiff._checks import count
from jaxdiff.linalg import times
from jaxdiff.numerics import normal
from jaxdiff.operators.base import LinearOperator
from jaxdiff.samplers.arguments import transition_of
from jaxdiff.samplers.base import GuidedSampler, Info, pure_noise, residual_norm
from jaxdiff.samplers.likelihood import noised_projection
from jaxdiff.samplers.ranges import Choice
from jaxdiff.samplers.registry import register
from jaxdiff.samplers.step import Step
from jaxdiff.samplers.transitions import Transition
from jaxdiff.schedules import TimeGrid
from jaxdiff.typing import Array, static

__all__ = ["RePaint", "RePaintState", "repaint", "resampling_grid"]


class RePaintState(NamedTuple):
    """The image, and the timestep that belongs to its noise."""

    x: Array
    at: Array


@struct.dataclass
class RePaint(GuidedSampler):
    """x_s = x′ + A⁺(√ᾱ_s y + √(1−ᾱ_s) A z − A x′), with x′ from a step of the prior. For a mask, known pixels come from y.

    If the run goes back in time, from t_at to a larger t, the image gets noise first:
    x_t ~ q(x_t | x_at) = N(√(ᾱ_t/ᾱ_at) x, (1 − ᾱ_t/ᾱ_at) I).
    """

    title = "RePaint"
    needs = LinearOperator
    wants = "a linear operator with a pseudo-inverse"
    search = {"jump_length": Choice((1, 5, 10)), "jump_samples": Choice((1, 2, 4, 10))}

    jump_length: int = static(default=10)
    jump_samples: int = static(default=10)

    def adapt_grid(self, grid: TimeGrid) -> TimeGrid:
        """The grid with its resampling jumps, once; each entry is one network call."""
        jumps = bool(np.any(grid.t[1:] != grid.s[:-1]))
        return grid if jumps else resampling_grid(grid, self.jump_length, self.jump_samples)

    def begin(self, at: Step) -> RePaintState:
        """Pure noise, x_T ~ N(0, I)."""
        return RePaintState(pure_noise(at), at.t)

    def advance(self, state: RePaintState, at: Step) -> tuple[RePaintState, Info]:
        """Go back where the grid says so, then one network call and the projection."""
        back_key, move_key, known_key = at.keys(3, self.title)
        x, level_at = state.x, at.denoiser.schedule.at(state.at)
        added = jnp.where(at.t > state.at, diffusion.beta_between(at.level_t, level_at), 0.0).astype(x.dtype)
        x = times(jnp.sqrt(1 - added), x) + times(jnp.sqrt(added), normal(back_key, x.shape, x.dtype))
        prediction = at.predict(x)
        x_s = self.move(prediction, x, at, normal(move_key, x.shape, x.dtype))
        x_s = noised_projection(x_s, at.problem, at.level_s, normal(known_key, x.shape, x.dtype))
        return RePaintState(x_s, at.s), Info(residual_norm(at.problem, prediction.x0))


def resampling_grid(grid: TimeGrid, jump_length: int, jump_samples: int) -> TimeGrid:
    """Every ``jump_length`` steps from the end go back as many, ``jump_samples`` − 1 times; down moves only are listed.

    With N steps, a jump of j and r samples this makes N + (r−1) j ⌊(N−1)/j⌋ network calls.

    >>> grid = TimeGrid(np.arange(4)[::-1], np.arange(4)[::-1] - 1)
    >>> resampling_grid(grid, 1, 2).t.tolist()
    [3, 3, 2, 2, 1, 1, 0]
    """
    times = [*grid.t.tolist(), grid.s[-1].item()]
    last = len(times) - 1
    # Position p in the list is reached going down; p can be left upwards if it is a multiple of the jump from the end.
    left = {
        p: jump_samples - 1 for p in range(last - 1, 0, -1) if (last - 1 - p) % jump_length == 0 and p >= jump_length
    }
    position, t, s = 0, [], []
    while position < last:
        t.append(times[position])
        s.append(times[position + 1])
        position += 1
        if left.get(position, 0) > 0:
            left[position] -= 1
            position -= jump_length
    return TimeGrid(np.asarray(t, grid.t.dtype), np.asarray(s, grid.s.dtype))


@register(RePaint)
def repaint(
    *, jump_length: int = 10, jump_samples: int = 10, transition: Transition | GuidedSampler | None = None
) -> RePaint:
    """RePaint, for masks and other linear operators with a pseudo-inverse.

    A run makes ``len(resampling_grid(...))`` network calls. For example, 250 steps with jumps of 10, 10 times, make 2410. With
    ``jump_samples=1`` the run never goes back. The method treats y as exact, even if it has noise.

    Args:
        jump_length: how many steps the run goes back.
        jump_samples: how many times the run goes through each stretch.
        transition: the step of the prior; DDPM by default.

    Raises:
        ValueError: if a count is below 1.

    Reference:
        Lugmayr et al. 2022, "RePaint: Inpainting using Denoising Diffusion Probabilistic Models", Algorithm 1 and
        appendix B. Difference: A⁺ takes the place of the mask. For masks this is the same.
    """
    return RePaint(
        count("jump_length", jump_length), count("jump_samples", jump_samples), transition=transition_of(transition)
    )
