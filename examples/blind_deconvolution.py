"""Blind deconvolution: the blur kernel is unknown, and sought by differentiating through the restoration.

Faces are taken with the same unknown camera shake, y_i = k ⋆ x_i + σ n. A posterior sampler (DiffPIR, one network call a
step) restores them with a guess of the kernel, x̂_i(k). With the right kernel a face explains the measurement; with a wrong
one it cannot, for no face blurred by it looks like y. So k is sought by gradient descent on

    mean over faces i and steps t ≥ 40 of  log ‖y_i − k ⋆ x̂₀(x_t)‖

with the gradient taken through every step of the sampler, network included. x̂₀ is what the network predicts from the noisy
iterate, a plausible face; the logarithm lets early and late steps count alike. (The misfit of the restored picture would not
do: the sampler fits y with any kernel that passes all frequencies, and best with a single peak.)

The runs begin at t = 400, from the measurement with noise added, as DiffPIR's authors begin theirs. Begun at pure noise the
criterion is as low at the truth but too rough to go down: there the sampler's solve (|k̂|² + ρ_t)⁻¹ has ρ_t ≈ 1e-7 and divides
by the squares of the kernel's smallest frequencies, so that a hundredth of a pixel sends a run to another face.

The shake is a straight line of unknown length and direction, drawn with a soft pen: two numbers, the vector from its middle
to its end. The search begins at the best of a few lines, and goes down the gradient with steps that are checked. A prior on
kernels is needed: with all pixels of the kernel free, or a path through six points, two faces do not determine it, and the
misfit falls below that of the true kernel.

Run: ``python examples/blind_deconvolution.py --out blind_deconvolution.png``
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd

SIGMA = 0.05
LAM = 4.0
"""DiffPIR's λ, the weight of the prior."""
START, FROM = 0.4, 0.04
"""Timesteps where a run begins, and down to which its predictions count, as shares of the schedule: below, the network only
cleans what it is given."""


def draw(end, size, pen=0.5):
    """The kernel of a straight line from −``end`` to ``end`` (y, x; pixels), passed at constant speed."""
    path = jnp.linspace(-1.0, 1.0, 4 * size)[:, None] * end
    place = jnp.arange(size, dtype=jnp.float32) - size // 2
    spots = jnp.exp(-((place[None, :, None] - path[:, None]) ** 2) / (2 * pen**2))  # [time, size, axis]
    kernel = jnp.einsum("ti,tj->ij", spots[..., 0], spots[..., 1])
    return kernel / kernel.sum()


def line(degrees, length):
    """The end of a line of this direction and length (pixels)."""
    angle = np.deg2rad(degrees)
    return length / 2 * jnp.asarray([np.sin(angle), np.cos(angle)], jnp.float32)


def direction_and_length(end):
    """Degrees in [0, 180), and pixels."""
    y, x = np.asarray(end, np.float64)
    return float(np.rad2deg(np.arctan2(y, x)) % 180), float(2 * np.hypot(y, x))


def problems_with(kernel, ys, shape):
    """The measurements, explained by this kernel."""
    operator = jd.operators.blur(image_shape=shape, kernel=kernel, padding="circular")
    return jax.vmap(lambda y: jd.Problem(operator, y, jnp.asarray(SIGMA, jnp.float32)))(ys)


def restore(key, denoiser, kernel, ys, *, steps, checkpoint=None):
    """The faces, restored as if this were the kernel; the mean log misfit (RMS, in units of σ) of the predictions."""
    total = denoiser.schedule.num_steps
    sampler = jd.samplers.diffpir(lam=LAM, zeta=0.3)
    grid = jd.schedules.timestep_grid(total, steps, "quad").below(round(START * total))
    keys = jax.random.split(key, len(ys))
    problems = problems_with(kernel, ys, ys.shape[1:])
    noisy = jnp.asarray(grid.t >= round(FROM * total), jnp.float32)
    level = denoiser.schedule.at(int(grid.t[0]))

    def run(key, problem):
        start_key, key = jax.random.split(key)
        first = jd.diffusion.q_sample(problem.y, jax.random.normal(start_key, problem.y.shape), level)
        image, info = jd.sample(key, denoiser, problem, sampler, steps=grid, x_init=first, checkpoint=checkpoint)
        return image, jnp.sum(noisy * jnp.log(info.residual / (SIGMA * problem.y.size**0.5))) / noisy.sum()

    return jax.vmap(run)(keys, problems)


def estimate(key, denoiser, ys, *, size, steps, directions, lengths, iterations, rate=0.6):
    """The best of a few lines, the line found from there, and the misfit after each step on the way to it."""

    def misfit(end):
        return restore(key, denoiser, draw(end, size), ys, steps=steps, checkpoint="step")[1].mean()

    lines = [(180 * i / directions, size * (j + 1) / (lengths + 1)) for i in range(directions) for j in range(lengths)]
    alone = jax.jit(misfit)
    tried = [float(alone(line(*direction))) for direction in lines]
    for (degrees, length), value in zip(lines, tried, strict=True):
        print(f"  {degrees:5.1f}°, {length:.2f} pixels: log misfit {value:.4f} (0 were the noise alone)", flush=True)
    first = line(*lines[int(np.argmin(tried))])
    return first, *descend(jax.jit(jax.value_and_grad(misfit)), first, iterations, rate)


def descend(step, end, iterations, rate):
    """Down the gradient from ``end``: the line reached, and the misfit after each step.

    A step that does not lower the misfit is taken back, and the next is half as long.
    """
    value, gradient = step(end)
    misfits = [float(value)]
    for _ in range(iterations):
        begun = time.perf_counter()
        proposal = end - rate * gradient / jnp.linalg.norm(gradient)
        value, slope = step(proposal)
        if lower := float(value) < misfits[-1]:
            end, gradient = proposal, slope
        rate *= 1.5 if lower else 0.5
        misfits.append(min(float(value), misfits[-1]))
        degrees, length = direction_and_length(end)
        seconds = time.perf_counter() - begun
        print(f"  {degrees:5.1f}°, {length:.2f} pixels: {misfits[-1]:.4f}, {seconds:.1f} s", flush=True)
    return end, misfits


def figure(path, rows, kernels):
    """Faces in columns: measured, truth, true kernel, estimated kernel; and the kernels beside them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = len(rows[0][1])
    columns = len(rows) + -(-len(kernels) // lines)
    fig, axes = plt.subplots(lines, columns, figsize=(1.6 * columns, 1.78 * lines), dpi=100, squeeze=False)
    fig.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.01, wspace=0.05, hspace=0.14)
    for c, (title, images, captions) in enumerate(rows):
        for r, image in enumerate(images):
            axes[r, c].imshow(np.clip((np.asarray(image) + 1) / 2, 0, 1))
            axes[r, c].set_title((title + " " if r == 0 else "") + captions[r], fontsize=7, pad=3)
    for i, (title, kernel) in enumerate(kernels):
        place = axes[i % lines, len(rows) + i // lines]
        place.imshow(np.asarray(kernel), cmap="gray", vmin=0, vmax=float(np.max(kernels[0][1])))
        place.set_title(title, fontsize=7, pad=3)
    for place in axes.ravel():
        place.set_axis_off()
    fig.savefig(path)
    plt.close(fig)


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--size", type=int, default=9, help="of the kernel, odd")
    parser.add_argument("--faces", type=int, default=3, help="taken with the same shake")
    parser.add_argument("--steps", type=int, default=16, help="over the schedule, while the kernel is sought")
    parser.add_argument("--final_steps", type=int, default=60, help="over the schedule, of the last restoration")
    parser.add_argument("--iterations", type=int, default=12, help="steps along the gradient")
    parser.add_argument("--directions", type=int, default=4, help="of the lines that are tried first")
    parser.add_argument("--lengths", type=int, default=2, help="of those lines")
    parser.add_argument("--direction", type=float, default=35.0, help="of the true shake, degrees")
    parser.add_argument("--length", type=float, default=6.0, help="of the true shake, pixels")
    parser.add_argument("--draw_steps", type=int, default=50, help="of drawing the faces")
    parser.add_argument("--out", default="blind_deconvolution.png")
    return parser.parse_args(arguments)


def main(arguments=None, denoiser=None):
    """Draw faces, shake the camera, and find the shake."""
    args = parse(arguments)
    denoiser = jd.load_denoiser(args.prior) if denoiser is None else denoiser
    face_key, noise_key, search_key = map(jax.random.key, (3, 5, 6))
    faces = jd.restore(face_key, denoiser, None, jd.samplers.ddpm(), count=args.faces, steps=args.draw_steps).x
    faces = jnp.clip(jnp.asarray(faces), -1, 1)
    true = draw(line(args.direction, args.length), args.size)
    operator = jd.operators.blur(image_shape=faces.shape[1:], kernel=true, padding="circular")
    ys = jax.vmap(lambda k, x: jd.observe(k, operator, x, SIGMA).y)(jax.random.split(noise_key, args.faces), faces)

    options = {name: getattr(args, name) for name in ("size", "steps", "directions", "lengths", "iterations")}
    first, end, misfits = estimate(search_key, denoiser, ys, **options)
    guess, found = draw(first, args.size), draw(end, args.size)
    final = jax.jit(lambda kernel: restore(jax.random.key(4), denoiser, kernel, ys, steps=args.final_steps)[0])
    images = {name: final(kernel) for name, kernel in (("true", true), ("first", guess), ("found", found))}
    psnrs = {name: np.asarray(jax.vmap(jd.metrics.psnr)(x, faces)) for name, x in images.items()}
    errors = {
        name: float(jnp.linalg.norm(k - true) / jnp.linalg.norm(true))
        for name, k in (("first", guess), ("found", found))
    }
    degrees, length = direction_and_length(end)
    print(f"found {degrees:.1f}°, {length:.2f} pixels; true {args.direction:.1f}°, {args.length:.2f} pixels")
    print(f"relative error of the kernel: first guess {errors['first']:.2f}, found {errors['found']:.2f}")
    for name, psnr in psnrs.items():
        print(f"PSNR with the {name} kernel: {np.round(psnr, 2)} dB, mean {psnr.mean():.2f}")

    blank = [""] * args.faces
    rows = [("measured", ys, blank), ("truth", faces, blank)]
    for name, title in (("first", "first guess"), ("found", "estimated kernel"), ("true", "true kernel")):
        rows.append((title, images[name], [f"{p:.1f} dB" for p in psnrs[name]]))
    figure(args.out, rows, [("true kernel", true), ("estimated", found), ("first guess", guess)])
    return errors, psnrs, misfits


if __name__ == "__main__":
    main()
