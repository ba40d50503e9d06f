"""What does a bfloat16 network cost in quality? Its PSNR against the float32 network's, with the same seeds.

Run:     python -m benchmarks.precision --images DIR [--prior faces64] [--tasks inpaint_box,super_resolution] [--method dps]
         [--count 2] [--steps 50] [--seeds 1]
Shows:   PSNR of both and their difference by task, mean and standard error over images. A sampler is chaotic, so single
         images differ by more than the mean does, in either direction. The goal is a mean loss below 0.05 dB.
Time:    2 minutes on two CPU cores, which have no fast bfloat16 of their own. For speed, time it on an accelerator.
Seen:    docs/performance.md.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from jaxdiff import tasks
from jaxdiff.files import find_images, load_image


def main() -> None:
    """Run both networks on every task and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of pictures")
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--tasks", default="inpaint_box,super_resolution")
    parser.add_argument("--method", default="dps")
    parser.add_argument("--count", type=int, default=2, help="pictures")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    denoisers = {name: jd.load_denoiser(args.prior, dtype=name) for name in ("float32", "bfloat16")}
    shape = denoisers["float32"].image_shape
    paths = find_images(args.images)[: args.count]
    truth = jnp.stack([load_image(path, size=shape[:2], resize=True).pixels for path in paths])
    images = jnp.concatenate([truth] * args.seeds)
    print("| task | PSNR float32 | PSNR bfloat16 | loss dB (± standard error) | s float32 | s bfloat16 |")
    print("|---|---|---|---|---|---|")
    losses = []
    for task_name in args.tasks.split(","):
        task = tasks.get_task(task_name)
        operator, sampler = task.make(jax.random.key(0), shape), tasks.sampler(args.method, task_name, args.prior)
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(1), i))(jnp.arange(len(images)))
        problems = [jd.observe(key, operator, image, task.noise_std) for key, image in zip(keys, images, strict=True)]
        scores, seconds = {}, {}
        for name, denoiser in denoisers.items():
            outcome = jd.restore(jax.random.key(2), denoiser, problems, sampler, steps=args.steps)
            seconds[name] = outcome.seconds
            scores[name] = [float(jd.metrics.psnr(jnp.asarray(a), b)) for a, b in zip(outcome.x, images, strict=True)]
        lost = [a - b for a, b in zip(scores["float32"], scores["bfloat16"], strict=True)]
        lost = np.mean(np.reshape(lost, (args.seeds, -1)), axis=0).tolist()  # by picture: its seeds are not independent
        losses.append(lost)
        means = " | ".join(f"{statistics.mean(scores[name]):.2f}" for name in denoisers)
        times = " | ".join(f"{seconds[name]:.0f}" for name in denoisers)
        print(f"| {task_name} | {means} | {_with_error(lost)} | {times} |", flush=True)
    overall = _with_error(np.mean(losses, axis=0).tolist())
    print(f"\n{args.method}, {args.steps} steps, {len(images)} runs a task: mean loss {overall} dB")


def _with_error(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):+.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
