"""Learn DPS's step size ζ as a function of time, by the gradient of the restoration error through the whole run.

DPS moves x_s against ζ ∇‖y − A(x̂₀)‖ with one number ζ for all times. Here ζ is a smooth curve over the training timesteps
(a few values of log ζ, interpolated), and

    d/d(log ζ)  mean over faces of ‖restored − truth‖²

is taken by reverse-mode differentiation through every step of the sampler, network included. ``checkpoint="step"`` keeps one
state a step in memory in place of all that the network computes ("sqrt" and "log" keep fewer, for long runs). The search
begins at the best constant, which is also what the curve has to beat: it is learned on some faces drawn from the prior and
judged on others, with other noise.

Run: ``python examples/learn_zeta_schedule.py --out learn_zeta_schedule.png``
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdiff as jd

KNOTS = 5


def schedule_of(knots, num_steps):
    """[T] values of ζ: log ζ is linear between the knots, which are evenly spaced in t."""
    places = jnp.linspace(0, num_steps - 1, len(knots))
    return jnp.exp(jnp.interp(jnp.arange(num_steps, dtype=jnp.float32), places, knots))


def restore(key, knots, denoiser, problem, steps, checkpoint=None):
    """One face, restored by DPS with this curve."""
    sampler = jd.samplers.dps(zeta=schedule_of(knots, denoiser.schedule.num_steps))
    return jd.sample(key, denoiser, problem, sampler, steps=steps, checkpoint=checkpoint)[0]


def measure(key, operator, truths, noise_std):
    """All faces under the same operator, each with its own noise."""
    return jax.vmap(lambda k, x: jd.observe(k, operator, x, noise_std))(jax.random.split(key, len(truths)), truths)


def best_constant(key, denoiser, operator, truths, *, steps, tried=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0)):
    """The ζ among a few that restores these faces best."""
    psnr = {
        zeta: float(judge(key, denoiser, operator, truths, np.full(KNOTS, np.log(zeta)), steps=steps)[2].mean())
        for zeta in tried
    }
    print("PSNR on the training faces: " + ", ".join(f"ζ = {zeta:g} {value:.2f} dB" for zeta, value in psnr.items()))
    return max(psnr, key=psnr.__getitem__)


def learn(key, denoiser, operator, truths, *, steps, iterations, zeta, rate=0.15, noise_std=0.05):
    """Knots, and the loss at each iteration of Adam, each with fresh noise.

    The knots are the mean over the second half of the iterations: each one alone follows the noise of its gradient.
    """

    def loss(values, key):
        measure_key, run_key = jax.random.split(key)
        problems = measure(measure_key, operator, truths, noise_std)

        def error(key, problem, truth):
            return jnp.mean((restore(key, values, denoiser, problem, steps, "step") - truth) ** 2)

        return jnp.mean(jax.vmap(error)(jax.random.split(run_key, len(truths)), problems, truths))

    # A run amplifies what is unstable, so single gradients can be huge: their length is limited.
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(rate))
    values = jnp.full(KNOTS, np.log(zeta), jnp.float32)
    state = optimizer.init(values)
    step = jax.jit(jax.value_and_grad(loss))
    path, losses = [], []
    for i in range(iterations):
        begun = time.perf_counter()
        value, gradient = step(values, jax.random.fold_in(key, i))
        updates, state = optimizer.update(gradient, state, values)
        values = optax.apply_updates(values, updates)
        path.append(np.asarray(values))
        losses.append(float(value))
        print(
            f"iteration {i:3d}: error {value:.5f}, ζ {np.round(np.exp(path[-1]), 2)}, {time.perf_counter() - begun:.1f} s"
        )
    return np.mean(path[len(path) // 2 :], axis=0), losses


def judge(key, denoiser, operator, truths, knots, *, steps, noise_std=0.05):
    """Restorations of faces with this curve, their measurements, and their PSNRs."""
    problems = measure(jax.random.fold_in(key, 0), operator, truths, noise_std)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(truths))
    run = jax.jit(jax.vmap(lambda k, p, knots: restore(k, knots, denoiser, p, steps), in_axes=(0, 0, None)))
    images = run(keys, problems, jnp.asarray(knots))
    return images, problems, jax.vmap(jd.metrics.psnr)(images, truths)


def figure(path, curves, losses, rows, num_steps):
    """Faces: measured, truth, restored with each ζ; the curves of ζ; the training error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    count = len(rows[0][1])
    fig = plt.figure(figsize=(1.15 * count + 4.6, 1.3 * len(rows)), dpi=90)
    left, right = fig.subfigures(1, 2, width_ratios=(1.15 * count, 4.6))
    axes = left.subplots(len(rows), count, squeeze=False)
    left.subplots_adjust(left=0.02, right=0.98, top=0.95, bottom=0.01, wspace=0.05, hspace=0.22)
    for r, (title, images, captions) in enumerate(rows):
        for c, image in enumerate(images):
            axes[r, c].imshow(np.clip((np.asarray(image) + 1) / 2, 0, 1))
            axes[r, c].set_axis_off()
            axes[r, c].set_title((title if c == 0 else "") + captions[c], fontsize=7, pad=2, loc="left")
    above, below = right.subplots(2, 1)
    right.subplots_adjust(left=0.16, right=0.97, top=0.97, bottom=0.09, hspace=0.3)
    for label, knots in curves.items():
        above.plot(np.asarray(schedule_of(jnp.asarray(knots), num_steps)), label=label)
    above.set(yscale="log", ylabel="ζ", xlabel="timestep (the run goes from right to left)")
    above.legend(frameon=False, fontsize=8)
    below.plot(losses, "o-", markersize=3)
    below.set(xlabel="iteration", ylabel="mean squared error", yscale="log")
    fig.savefig(path)
    plt.close(fig)


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--steps", type=int, default=12, help="of a DPS run")
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--train", type=int, default=4, help="faces to learn on")
    parser.add_argument("--test", type=int, default=8, help="faces to judge on")
    parser.add_argument("--draw_steps", type=int, default=50, help="of drawing the faces")
    parser.add_argument("--out", default="learn_zeta_schedule.png")
    return parser.parse_args(arguments)


def main(arguments=None, denoiser=None, operator=None):
    """Draw faces, learn on some, judge on others."""
    args = parse(arguments)
    denoiser = jd.load_denoiser(args.prior) if denoiser is None else denoiser
    shape = denoiser.image_shape
    if operator is None:
        operator = jd.operators.gaussian_blur(image_shape=shape, size=9, std=1.5)
    key = jax.random.key(0)
    count = args.train + args.test
    faces = jd.restore(key, denoiser, None, jd.samplers.ddpm(), count=count, steps=args.draw_steps).x
    faces = jnp.clip(jnp.asarray(faces), -1, 1)
    train, test = faces[: args.train], faces[args.train :]

    best = best_constant(jax.random.key(2), denoiser, operator, train, steps=args.steps)
    learned, losses = learn(key, denoiser, operator, train, steps=args.steps, iterations=args.iterations, zeta=best)
    curves = {
        "ζ = 1": np.zeros(KNOTS),
        f"ζ = {best:g}": np.full(KNOTS, np.log(best)),
        "learned": learned,
    }
    results = [judge(jax.random.key(1), denoiser, operator, test, k, steps=args.steps) for k in curves.values()]
    first, before, after = (np.asarray(psnr) for _, _, psnr in results)
    print(
        f"PSNR on {args.test} other faces: ζ = 1 {first.mean():.2f} dB, the constant that is best on the training faces"
    )
    print(f"(ζ = {best:g}) {before.mean():.2f} dB, learned {after.mean():.2f} dB: ζ = {np.round(np.exp(learned), 2)}")

    problems = results[0][1]
    views = jax.vmap(lambda problem: problem.operator.view(problem.y))(problems)
    blank = [""] * args.test
    rows = [
        ("measured", views, blank),
        ("truth", test, blank),
        *(
            (f"{name}: ", images, [f"{p:.1f} dB" for p in psnr])
            for name, (images, _, psnr) in zip(curves, results, strict=True)
        ),
    ]
    figure(args.out, curves, losses, rows, denoiser.schedule.num_steps)
    return before, after, losses


if __name__ == "__main__":
    main()
