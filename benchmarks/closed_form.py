"""How far are each method's draws from a posterior that is known exactly?

Run:     python -m benchmarks.closed_form [--draws 1000] [--steps 100] [--only dps mmps] [--out table.md]
Shows:   on 4x4 images, with exact denoisers of a Gaussian and of a mixture prior, the errors of mean and covariance of N
         independent runs (sliced Wasserstein distance for the mixture). The row "exact draws" shows the errors of N exact
         draws. ± is the standard deviation over bootstrap resamples of the draws. A second table compares the
         unconditional samplers with the prior. There is no network, so all error is the method's.
Seen:    docs/exactness.md.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from jaxdiff import evaluation, operators, samplers, schedules
from jaxdiff.denoisers import gaussian_mixture_prior, gaussian_prior

SHAPE = (4, 4, 1)
SIZE = 16
SIGMA = 0.2
MIXTURE_SIGMA = 0.5
SCHEDULE = schedules.linear(1000)

# name -> (sampler, network calls a step: forward, backward)
METHODS = {
    "exact draws": (None, 0, 0),
    "ddpm": (samplers.ddpm(), 1, 0),
    "sdedit(start=300)": (samplers.sdedit(start=300), 1, 0),
    "score_ald()": (samplers.score_ald(), 1, 0),
    "dps(zeta=1)": (samplers.dps(), 1, 1),
    "dps(zeta=0.3)": (samplers.dps(zeta=0.3), 1, 1),
    "mmps(iterations=1)": (samplers.mmps(), 1, 2),
    "mmps(iterations=5)": (samplers.mmps(iterations=5), 1, 6),
    "pigdm()": (samplers.pigdm(), 1, 1),
    "pigdm(prior_std=0.5)": (samplers.pigdm(prior_std=0.5), 1, 1),
    "pigdm(form=original)": (samplers.pigdm(form="original"), 1, 1),
    "tmpd()": (samplers.tmpd(), 1, 2),
    "mcg()": (samplers.mcg(), 1, 1),
    "dsg(rate=0.1)": (samplers.dsg(), 1, 1),
    "lgd_mc(zeta=1)": (samplers.lgd_mc(), 1, 1),
    "ddnm()": (samplers.ddnm(), 1, 0),
    "ddrm()": (samplers.ddrm(), 1, 0),
    "repaint(1, 1)": (samplers.repaint(jump_length=1, jump_samples=1), 1, 0),
    "repaint(5, 5)": (samplers.repaint(jump_length=5, jump_samples=5), 5, 0),
    "diffpir()": (samplers.diffpir(), 1, 0),
    "diffpir(lam=1, zeta=1)": (samplers.diffpir(lam=1.0, zeta=1.0), 1, 0),
    "flower()": (samplers.flower(), 1, 0),
    "flower(draw=True)": (samplers.flower(draw=True), 1, 0),
    "flower(draw=True, prior_std=0.5)": (samplers.flower(draw=True, prior_std=0.5), 1, 0),
    "pnp_flow()": (samplers.pnp_flow(), 5, 0),
    "reddiff()": (samplers.reddiff(), 1, 0),
    "sitcom(iterations=10)": (samplers.sitcom(iterations=10), 11, 10),
    "pnp_dm()": (samplers.pnp_dm(), 20, 0),
    "fast_dips()": (samplers.fast_dips(), 1, 0),
    "daps(step_size=4e-3, decay=1)": (samplers.daps(step_size=4e-3, decay=1.0), 5, 0),
    "daps(step_size=4e-3, decay=1, inner=hmc)": (samplers.daps(step_size=4e-3, decay=1.0, inner="hmc"), 5, 0),
    "annealed_langevin()": (samplers.annealed_langevin(), 3, 0),
    "tds(particles=16)": (samplers.tds(), 16, 16),
    "fps(particles=16)": (samplers.fps(), 16, 0),
}

# name -> (sampler, network calls a step)
UNCONDITIONAL = {
    "exact draws": (None, 0),
    "ddpm()": (samplers.ddpm(), 1),
    "ddim()": (samplers.ddim(), 1),
    "ddim(eta=1)": (samplers.ddim(eta=1.0), 1),
    "dpm_solver()": (samplers.dpm_solver(), 1),
    "heun()": (samplers.heun(), 2),
    "heun(churn=0.2)": (samplers.heun(churn=0.2), 2),
}
UNCONDITIONAL_STEPS = (10, 30, 100)
RESAMPLES = 100


class Case(NamedTuple):
    """One posterior: its prior, its problem (None: the prior itself is drawn), and the truth."""

    prior: object
    problem: jd.Problem | None
    truth: object


def cases() -> dict[str, Case]:
    rng = np.random.default_rng(0)
    mean = jnp.asarray(rng.normal(size=SHAPE) / 3, jnp.float32)
    row, column = np.arange(SIZE) // 4, np.arange(SIZE) % 4
    distance = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    gaussian = gaussian_prior(mean, jnp.asarray(0.25 * 0.6**distance, jnp.float32), SCHEDULE)
    means = jnp.asarray(rng.normal(size=(3, *SHAPE)) / 2, jnp.float32)
    mixture = gaussian_mixture_prior(jnp.asarray([0.5, 0.3, 0.2]), means, jnp.asarray([0.02, 0.05, 0.03]), SCHEDULE)
    seen = rng.permutation(SIZE).reshape(4, 4) < 9
    mask = operators.inpaint_mask(image_shape=SHAPE, mask=jnp.asarray(seen, jnp.float32))
    line = np.array([[0.6, 0.4, 0, 0], [0.3, 0.4, 0.3, 0], [0, 0.3, 0.4, 0.3], [0, 0, 0.4, 0.6]])
    blur = operators.separable(image_shape=SHAPE, rows=line, columns=line)
    corner = operators.inpaint_mask(image_shape=SHAPE, mask=jnp.zeros((4, 4)).at[:2, :2].set(1.0))
    key = jax.random.key(1)
    # By Cholesky's root, which is unique: eigenvectors, and so the truth, would differ from processor to processor.
    root = np.linalg.cholesky(np.asarray(gaussian.covariance, np.float64)).astype(np.float32)
    image = mean + (root @ jax.random.normal(key, (SIZE,))).reshape(SHAPE)
    out = {}
    for name, operator in (("mask", mask), ("blur", blur)):
        problem = jd.observe(jax.random.key(2), operator, image, SIGMA)
        out[name] = Case(gaussian, problem, evaluation.gaussian_posterior(gaussian, problem))
    problem = jd.observe(jax.random.key(3), corner, 0.5 * (means[0] + means[1]), MIXTURE_SIGMA)
    out["mixture"] = Case(mixture, problem, evaluation.mixture_posterior(mixture, problem))
    return out


def priors() -> dict[str, Case]:
    """The priors of ``cases`` with nothing measured."""
    here = cases()
    gaussian, mixture = here["mask"].prior, here["mixture"].prior
    blind = here["mixture"].problem.replace(noise_std=jnp.asarray(1e4))  # a measurement that says nothing
    return {
        "gaussian": Case(gaussian, None, (gaussian.mean, gaussian.covariance)),
        "mixture": Case(mixture, None, evaluation.mixture_posterior(mixture, blind)),
    }


def grid_of(name: str, steps: int) -> schedules.TimeGrid:
    if name.startswith(("flower", "pnp_flow")):
        return samplers.flow_grid(SCHEDULE, steps)
    if name.startswith("daps"):
        return samplers.karras_grid(SCHEDULE, steps, sigma_max=100.0, sigma_min=0.1)
    if name.startswith("pnp_dm"):
        return samplers.karras_grid(SCHEDULE, steps, sigma_max=10.0, sigma_min=0.1)
    if name.startswith("sdedit"):
        return samplers.karras_grid(SCHEDULE, 2 * steps)
    return samplers.karras_grid(SCHEDULE, steps)


def draws(name: str, case: Case, count: int, steps: int) -> jax.Array:
    sampler = (METHODS | UNCONDITIONAL)[name][0]
    keys = jax.random.split(jax.random.key(7), count)
    if sampler is None and isinstance(case.truth, evaluation.MixturePosterior):
        return case.truth.draw(keys[0], count)
    if sampler is None:
        mean, covariance = case.truth
        root = jnp.linalg.cholesky(covariance + 1e-9 * jnp.eye(SIZE))
        return mean.ravel() + jax.random.normal(keys[0], (count, SIZE)) @ root.T
    grid = grid_of(name, steps)
    problem = None if sampler.needs is None else case.problem
    run = jax.jit(lambda k: jax.lax.map(lambda k: jd.sample(k, case.prior, problem, sampler, steps=grid)[0], k,
                                        batch_size=250))  # fmt: skip
    return run(keys)


def judge(case: Case, images: jax.Array) -> tuple[str, ...]:
    """The figures of some draws, each with the standard deviation that it has over bootstrap resamples of them."""
    flat = images.reshape(images.shape[0], -1)
    if not bool(jnp.all(jnp.isfinite(flat))):
        return ("diverges",)
    if isinstance(case.truth, evaluation.MixturePosterior):
        exact, digits = case.truth.draw(jax.random.key(11), flat.shape[0]), 3

        def figures(flat: jax.Array) -> jax.Array:
            return evaluation.sliced_wasserstein(jax.random.key(12), flat, exact)[None]
    else:
        digits = 2

        def figures(flat: jax.Array) -> jax.Array:
            errors = evaluation.moment_errors(flat, *case.truth)
            return jnp.stack([errors.mean, errors.covariance, errors.spread])

    again = jax.random.randint(jax.random.key(13), (RESAMPLES, len(flat)), 0, len(flat))
    errors = jax.lax.map(lambda index: figures(flat[index]), again).std(0)
    return tuple(f"{float(v):.{digits}f} ± {float(e):.{digits}f}" for v, e in zip(figures(flat), errors, strict=True))


def row(name: str, here: dict[str, Case], count: int, steps: int) -> list[str]:
    """The cells of a method: three figures for a Gaussian, one for a mixture."""
    cells: list[str] = []
    for kind, case in here.items():
        try:
            found = judge(case, draws(name, case, count, steps))
        except ValueError as refusal:
            print(refusal, file=sys.stderr)
            found = ("refused",)
        cells += [*found, *[""] * ((1 if kind == "mixture" else 3) - len(found))]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", nargs="*", help="methods whose name starts so")
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    here = cases()
    mean, covariance = here["mask"].truth
    floor = evaluation.moment_errors(jnp.zeros((options.draws, SIZE)), mean, covariance)
    lines = [
        f"{options.draws} draws, {options.steps} steps, σ = {SIGMA} (mixture: {MIXTURE_SIGMA}). "
        f"For the mask, {options.draws} exact draws show on average: "
        f"mean error {float(floor.mean_floor):.2f}, covariance error {float(floor.covariance_floor):.2f}, "
        f"spread 1 ± {float(floor.spread_floor):.3f}.",
        "",
        "| method | calls a step (forward + backward) | mask: mean | cov | spread | blur: mean | cov | spread | mixture: SW |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(_tables(options, here, lines)))


def _tables(options: argparse.Namespace, here: dict[str, Case], lines: list[str]) -> list[str]:
    """The lines with a row for each method, which are written as they come."""
    chosen = tuple(options.only or [""])

    def add(name: str, first: list[str], here: dict[str, Case], steps: int) -> None:
        start = time.perf_counter()
        lines.append(f"| `{name}` | " + " | ".join([*first, *row(name, here, options.draws, steps)]) + " |")
        print(f"{lines[-1]}  {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if options.out:
            options.out.write_text("\n".join(lines) + "\n")

    for name, (_, forward, backward) in METHODS.items():
        if name.startswith(chosen):
            add(name, [f"{forward} + {backward}"], here, options.steps)
    lines += [
        "",
        "| unconditional | steps | calls | Gaussian: mean | cov | spread | mixture: SW |",
        "|---|---|---|---|---|---|---|",
    ]
    unmeasured = priors()
    for name, (sampler, calls) in UNCONDITIONAL.items():
        for steps in UNCONDITIONAL_STEPS if sampler else (0,):
            if name.startswith(chosen):
                add(name, [str(steps), str(steps * calls)], unmeasured, steps)
    return lines


if __name__ == "__main__":
    main()
