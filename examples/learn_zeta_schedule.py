"""Learn DPS's step size ζ as a function of time, by the gradient of the restoration error through the whole run.

DPS moves x_s against ζ ∇‖y − A(x̂₀)‖ with one number ζ for all times. Here ζ is a smooth curve over the training timesteps
(a few values of log ζ, interpolated), and

    d/d(log ζ)  mean over faces of ‖restored − truth‖²

is taken by reverse-mode differentiation through every step of the sampler, network included. ``checkpoint="step"`` keeps one
state a step in memory in place of all that the network computes ("sqrt" and "log" keep fewer, for long runs). The curve is
learned on some faces drawn from the prior and judged on others, with other noise.

Run: ``python examples/learn_zeta_schedule.py --out learn_zeta_schedule.png``
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdiff as jd


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


def learn(key, denoiser, operator, truths, *, steps, iterations, knots=5, zeta=1.0, rate=0.25, noise_std=0.05):
    """The knots after each iteration of Adam, and the loss that each was judged by."""

    def loss(values, key):
        measure_key, run_key = jax.random.split(key)
        problems = measure(measure_key, operator, truths, noise_std)

        def error(key, problem, truth):
            return jnp.mean((restore(key, values, denoiser, problem, steps, "step") - truth) ** 2)

        return jnp.mean(jax.vmap(error)(jax.random.split(run_key, len(truths)), problems, truths))

    # A run amplifies what is unstable, so single gradients can be huge: their length is limited.
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(rate))
    values = jnp.full(knots, np.log(zeta), jnp.float32)
    state = optimizer.init(values)
    step = jax.jit(jax.value_and_grad(loss))
    path, losses = [np.asarray(values)], []
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
    return path, losses


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


def main(arguments=None, denoiser=None, operator=None):
    """Draw faces, learn on some, judge on others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--steps", type=int, default=12, help="of a DPS run")
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--train", type=int, default=2, help="faces to learn on")
    parser.add_argument("--test", type=int, default=4, help="faces to judge on")
    parser.add_argument("--draw_steps", type=int, default=50, help="of drawing the faces")
    parser.add_argument("--out", default="learn_zeta_schedule.png")
    args = parser.parse_args(arguments)

    denoiser = jd.load_denoiser(args.prior) if denoiser is None else denoiser
    shape = denoiser.image_shape
    if operator is None:
        operator = jd.operators.gaussian_blur(image_shape=shape, size=9, std=1.5)
    key = jax.random.key(0)
    count = args.train + args.test
    faces = jd.restore(key, denoiser, None, jd.samplers.ddpm(), count=count, steps=args.draw_steps).x
    faces = jnp.clip(jnp.asarray(faces), -1, 1)
    train, test = faces[: args.train], faces[args.train :]

    knots, losses = learn(key, denoiser, operator, train, steps=args.steps, iterations=args.iterations)
    results = [judge(jax.random.key(1), denoiser, operator, test, k, steps=args.steps) for k in (knots[0], knots[-1])]
    # The fair opponent of a learned curve is the best constant, not any constant.
    constants = {
        zeta: judge(jax.random.key(2), denoiser, operator, train, np.full(5, np.log(zeta)), steps=args.steps)[2].mean()
        for zeta in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    }
    best = max(constants, key=lambda zeta: float(constants[zeta]))
    flat = np.full(5, np.log(best))
    constant = judge(jax.random.key(1), denoiser, operator, test, flat, steps=args.steps)
    before, after, fair = (np.asarray(psnr) for _, _, psnr in (*results, constant))
    print(f"PSNR on {args.test} other faces: ζ = 1 {before.mean():.2f} dB, learned {after.mean():.2f} dB,")
    print(f"the constant that is best on the training faces (ζ = {best:g}) {fair.mean():.2f} dB")

    problems = results[0][1]
    views = jax.vmap(lambda problem: problem.operator.view(problem.y))(problems)
    blank = [""] * args.test
    rows = [
        ("measured", views, blank),
        ("truth", test, blank),
        ("ζ = 1: ", results[0][0], [f"{p:.1f} dB" for p in before]),
        (f"ζ = {best:g}: ", constant[0], [f"{p:.1f} dB" for p in fair]),
        ("learned: ", results[1][0], [f"{p:.1f} dB" for p in after]),
    ]
    curves = {"before": knots[0], "best constant": flat, "learned": knots[-1]}
    figure(args.out, curves, losses, rows, denoiser.schedule.num_steps)
    return before, after, losses


if __name__ == "__main__":
    main()
