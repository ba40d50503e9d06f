"""How good is a prior? Any number of priors side by side, on the same images, noise and masks.

Run:   python -m benchmarks.prior_quality faces64 runs/a/prior.safetensors --images DIR [--train PATH ...] [--out DIR]
What:  held-out denoising (PSNR of x̂₀ and mean squared error of ε̂ by timestep); DPS on box inpainting and Gaussian
       deblurring (PSNR, SSIM, LPIPS); unconditional samples. Of the samples: LPIPS to the nearest training image (is it
       copying?), pairwise LPIPS (diversity) and mean colour (casts). Each stands beside the same number of real images.
       KID on LPIPS-AlexNet features tells how far samples are from real images as a set. PSNR and LPIPS of a further prior
       come with the mean difference from the first, and its standard error over the pictures.
Needs: --images: pictures that no prior was trained on, at any size (centre-cropped, resized with an antialiased filter).
       --train: the folders or zips that it was trained on; without it there is no copying test.
Time:  on two CPU cores about 8 minutes a prior of 3.8 M parameters with the defaults. The search through 20,000 training
       images takes another two, doubled by their mirror images. --samples 16 --steps 50 is a quick look; --measure
       denoising takes a minute. --draws 4 noises and restores every picture four times. That averages out chance in the
       noise, but not the choice of pictures.
       Samples depend on the sampler as much as on the prior: compare priors by the same one.
       KID needs many real faces: with 16 its standard error says little. --real names more, best ones that no prior saw.
       --weak guides the first prior by a weaker one (autoguidance), with each of --weights.
Seen:  docs/faces64.md.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import shlex
import sys
import webbrowser
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

import jaxdiff as jd
from jaxdiff import hosts
from jaxdiff.engine import batch_keys, restore_many
from jaxdiff.evaluation import kernel_distance
from jaxdiff.files import find_images, load_image, out_folder, save_image
from jaxdiff.pages import REPORT, Page, Picture, Pictures, Plot, Section, Series, Table, settings_of, write_page
from jaxdiff.plots import sheet
from jaxdiff.samplers import UNCONDITIONAL
from jaxdiff.tables import counted
from jaxdiff.training import denoising_scores_each
from jaxdiff.training.data import ImageSet, open_images

TIMES = (10, 50, 100, 250, 500, 750)
DENOISING = {"denoising PSNR, t = {} [dB]": "PSNR of x̂₀ [dB]", "denoising ε-MSE, t = {}": "squared error of ε̂"}
"""Name of a measure by timestep → title of its axis."""
MEASURES = ("denoising", "restoration", "samples")
CACHE_BYTES = 2**31
KID = "KID on LPIPS-AlexNet features"
"""The kernel distance of Bińkowski et al. 2018, not on Inception's features: compare it with nothing but itself."""
Row = tuple[str, float]


def denoising(denoiser: jd.Denoiser, images: np.ndarray, draws: int) -> Iterator[tuple[str, np.ndarray]]:
    """Scores one by one, draw by draw of the noise, [draws · images]; the noise is the same for every prior."""
    scores = np.stack([denoising_scores_each(denoiser, images, TIMES, seed=seed) for seed in range(draws)], axis=2)
    for name, values in zip(DENOISING, scores, strict=True):
        yield from ((name.format(t), each.ravel()) for t, each in zip(TIMES, values, strict=True))


def restoration(
    denoiser: jd.Denoiser, images: np.ndarray, args: argparse.Namespace
) -> Iterator[tuple[str, np.ndarray]]:
    """DPS on both tasks, ``args.draws`` of each image: scores one by one.

    Draw i has its own key, so every prior sees the same measurement and noise.
    """
    images = np.tile(images, (args.draws, 1, 1, 1))
    shape = denoiser.image_shape
    size = 2 * round((61 * shape[0] / 256 - 1) / 2) + 1
    blur = jd.operators.gaussian_blur(image_shape=shape, size=size, std=3.0 * (shape[0] / 256) ** 0.5)
    tasks = {
        "box inpainting": (jd.operators.inpaint_box(image_shape=shape, size=shape[0] // 2), args.zeta_box),
        "Gaussian deblurring": (blur, args.zeta_blur),
    }

    @jax.jit
    def score(x: jax.Array, image: jax.Array) -> jax.Array:
        def one(x: jax.Array, image: jax.Array) -> jax.Array:
            x = jnp.clip(x, -1, 1)
            return jnp.stack([jd.metrics.psnr(x, image), jd.metrics.ssim(x, image), jd.metrics.lpips(x, image)])

        return jax.vmap(one)(x, image)

    keys = batch_keys(jax.random.key(1), len(images))
    measure_keys, sample_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    for name, (operator, zeta) in tasks.items():
        problems = jax.vmap(jd.observe, (0, None, 0, None))(measure_keys, operator, jnp.asarray(images), args.noise_std)
        restored = restore_many(sample_keys, denoiser, problems, jd.samplers.dps(zeta=zeta), steps=args.steps).x
        values = np.asarray(score(jnp.asarray(restored), jnp.asarray(images)))
        for metric, column in zip(("PSNR [dB]", "SSIM", "LPIPS"), values.T, strict=True):
            yield f"DPS {name}, {metric}", column


def paired(found: dict[str, np.ndarray], first: dict[str, np.ndarray], draws: int) -> Iterator[Row]:
    """Means; and for PSNR and LPIPS the mean difference from the first prior, with the standard error of paired differences.

    Scores come draw by draw, [draws · pictures]. Draws of one picture are alike, so only pictures count as independent.
    """
    for name, values in found.items():
        yield name, float(values.mean())
        if ("PSNR" in name or "LPIPS" in name) and found is not first:
            difference = (values - first[name]).reshape(draws, -1).mean(0)
            yield f"{name}: difference", float(difference.mean())
            yield f"{name}: standard error", float(difference.std(ddof=1) / np.sqrt(len(difference)))


def embedder() -> Callable[[np.ndarray], np.ndarray]:
    params = jax.device_put(jd.metrics.lpips_params())
    embed = jax.jit(lambda params, x: jax.vmap(lambda image: jd.metrics.lpips_embedding(image, params=params))(x))
    return lambda images: np.asarray(embed(params, jnp.asarray(images)))


def pairwise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """LPIPS between every a [n, D] and every b [m, D]."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :]
    return np.maximum(squares - 2 * a @ b.T, 0)


def readable(source: str, size: int, option: str) -> ImageSet:
    """The images of a folder or zip, without those that cannot be read."""
    images = open_images(source, size, option=option)
    images.scan(CACHE_BYTES, workers=2)
    if images.skipped:
        print(f"{source}: skipped {len(images.skipped)} that cannot be read", file=sys.stderr)
    if not len(images):
        raise ValueError(f"none of the images in {source} can be read; check {option}.")
    return images


def real_images(sources: list[str], size: int) -> np.ndarray:
    """All images of folders and zips, [n, size, size, 3] in [-1, 1]."""
    pictures = [
        images[i] for images in (readable(source, size, "--real") for source in sources) for i in range(len(images))
    ]
    return np.stack(pictures).astype(np.float32) / 127.5 - 1


def nearest_training(embedded: np.ndarray, sources: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """LPIPS from each image [n, D] to its nearest training image or mirrored one, and that view of it.

    Training shows images in mirrors too, so a copy may be of either view. Unreadable files are skipped and counted.
    """
    embed, best = embedder(), np.full(len(embedded), np.inf)
    closest = np.zeros((len(embedded), size, size, 3), np.float32)
    for source in sources:
        images = readable(source, size, "--train")
        starts = range(0, len(images), 128)
        for start in track(starts, description=f"nearest in {pathlib.Path(source).name}"):
            index = np.minimum(np.arange(start, start + 128), len(images) - 1)  # the last batch repeats its last image
            batch = np.stack([images[int(i)] for i in index]).astype(np.float32) / 127.5 - 1
            for view in (batch, batch[:, :, ::-1]):
                distance = pairwise(embedded, embed(view))
                nearer = distance.min(1) < best
                best[nearer], closest[nearer] = distance.min(1)[nearer], view[distance.argmin(1)[nearer]]
    return best, closest


def kid(embedded: np.ndarray, reference: np.ndarray) -> Iterator[Row]:
    """The kernel distance to real images, on LPIPS embeddings scaled to √D, so that the kernel is (cosine + 1)³."""

    def scaled(e: np.ndarray) -> jax.Array:
        return jnp.asarray(e * np.sqrt(e.shape[1]) / np.linalg.norm(e, axis=1, keepdims=True))

    found = kernel_distance(scaled(embedded), scaled(reference))
    yield KID, float(found.value)
    yield f"{KID}: standard error", float(found.standard_error)


def spread(embedded: np.ndarray) -> float:
    return float(pairwise(embedded, embedded)[np.triu_indices(len(embedded), 1)].mean())


def statistics_of(images: np.ndarray, embedded: np.ndarray, nearest: np.ndarray | None) -> Iterator[Row]:
    """The same numbers for samples and for real images."""
    yield "pairwise LPIPS (diversity)", spread(embedded)
    colour = images.mean((1, 2))
    yield "colour: standard deviation of an image's mean", float(colour.std(0).mean())
    yield "colour: cast (distance of a channel from grey)", float(np.abs(colour - colour.mean(1, keepdims=True)).mean())
    yield "saturated pixels [%]", float(100 * (np.abs(images) > 0.995).mean())
    if nearest is not None:
        yield "LPIPS to the nearest training image, mean", float(nearest.mean())
        yield "LPIPS to the nearest training image, least", float(nearest.min())


def markdown(table: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for rows in table.values() for name in rows))
    lines = ["| measure | " + " | ".join(table) + " |", "|---|" + "---:|" * len(table)]
    for name in names:
        cells = [f"{rows[name]:.5g}" if name in rows else "" for rows in table.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def add_samples(
    table: dict[str, dict[str, float]],
    drawn: dict[str, np.ndarray],
    images: np.ndarray,
    args: argparse.Namespace,
    out: pathlib.Path | None,
) -> None:
    """Add the rows on samples, beside those of real images; draw the sheets."""
    sets = drawn | {f"real ({pathlib.Path(args.images).name})": images}
    embed = embedder()
    embedded = {name: embed(values) for name, values in sets.items()}
    reference = embedded[list(sets)[-1]]
    if args.real:
        real = real_images(args.real, images.shape[1])
        reference = np.concatenate([embed(real[i : i + 128]) for i in range(0, len(real), 128)])
    nearest: dict[str, np.ndarray | None] = dict.fromkeys(sets)
    if args.train:
        # One pass over the training images for all sets.
        distance, closest = nearest_training(np.concatenate(list(embedded.values())), args.train, images.shape[1])
        cuts = np.cumsum([len(values) for values in sets.values()])[:-1]
        nearest = dict(zip(sets, np.split(distance, cuts), strict=True))
        for name, twins in zip(sets, np.split(closest, cuts), strict=True):
            if out is not None and name in drawn:
                pairs = np.stack([drawn[name], twins], 1).reshape(-1, *twins.shape[1:])
                save_image(out / f"nearest_{_slug(name)}.png", sheet(pairs[:64], columns=8))
    for name, values in sets.items():
        table.setdefault(name, {}).update(statistics_of(values, embedded[name], nearest[name]))
        if embedded[name] is not reference:
            table[name] |= dict(kid(embedded[name], reference))
        if out is not None and name in drawn:
            save_image(out / f"samples_{_slug(name)}.png", sheet(values))


def denoisers_of(args: argparse.Namespace) -> dict[str, Any]:
    """The priors, and the first of them guided by a weaker one."""
    denoisers: dict[str, Any] = {name: jd.load_denoiser(name) for name in args.priors}
    if args.weak:
        first, weak = args.priors[0], jd.load_denoiser(args.weak)
        for weight in args.weights:
            guided = jd.denoisers.autoguided(denoisers[first], weak, weight=weight, sigma_range=tuple(args.sigma_range))
            denoisers[f"{first} guided {weight:g}"] = guided
    return denoisers


def evaluate(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    denoisers = denoisers_of(args)
    sizes = {d.image_shape for d in denoisers.values()}
    if len(sizes) != 1:
        raise ValueError(f"the priors are of different sizes {sorted(sizes)}; compare those of one size.")
    height, width, _ = sizes.pop()
    paths = find_images(args.images)
    images = np.stack([load_image(path, size=(height, width), resize=True).pixels for path in paths])
    out = out_folder(args.out) if args.out else None
    table: dict[str, dict[str, float]] = {}
    drawn: dict[str, np.ndarray] = {}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for name, denoiser in denoisers.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        scores[name] = dict(denoising(denoiser, images, args.draws)) if "denoising" in args.measure else {}
        if "restoration" in args.measure:
            scores[name] |= dict(restoration(denoiser, images, args))
        table[name] = dict(paired(scores[name], scores[next(iter(denoisers))], args.draws))
        if "samples" not in args.measure:
            continue
        keys, sampler = batch_keys(jax.random.key(0), args.samples), UNCONDITIONAL[args.sampler]()
        drawn[name] = np.clip(restore_many(keys, denoiser, None, sampler, steps=args.sample_steps).x, -1, 1)
    if drawn:
        add_samples(table, drawn, images, args, out)
    if out is not None:
        (out / "prior_quality.md").write_text(markdown(table) + "\n")
        with (out / "prior_quality.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("prior", "measure", "value"))
            writer.writerows((prior, name, value) for prior, rows in table.items() for name, value in rows.items())
        write_page(out / REPORT, page_of(table, [*denoisers], len(images), args, out))
    return table


def page_of(
    table: dict[str, dict[str, float]], priors: list[str], count: int, args: argparse.Namespace, out: pathlib.Path
) -> Page:
    """The report: curves by noise level, the table, and the sheets that ``add_samples`` wrote."""
    plots = [
        Plot(
            "timestep t",
            y,
            {prior: Series(TIMES, [table[prior][name.format(t)] for t in TIMES]) for prior in priors},
            y,
        )
        for name, y in DENOISING.items()
        if "denoising" in args.measure
    ]
    measures = dict.fromkeys(name for rows in table.values() for name in rows)
    lines = [[name, *(f"{rows[name]:.5g}" if name in rows else "" for rows in table.values())] for name in measures]
    sections = [Section("Denoising by noise level", plots)] if plots else []
    kinds = {"samples": "Draws", "nearest": "Draws, each beside the nearest training image"}
    for kind, title in kinds.items():
        files = {prior: out / f"{kind}_{_slug(prior)}.png" for prior in priors}
        sheets = [Picture(prior, load_image(file).pixels) for prior, file in files.items() if _drawn(file, kind, args)]
        if sheets:
            sections.append(Section(title, [Pictures(sheets, columns=min(2, len(sheets)))]))
    sections.append(Section("All measures", [Table(["measure", *table], lines)]))
    lead = f"{counted(len(priors), 'prior')} on {count} held-out images, on the same noise and the same measurements."
    command = shlex.join(["python", "-m", "benchmarks.prior_quality", *sys.argv[1:]])
    return Page("How good is a prior?", lead, sections, settings_of(command=command, seed=0))


def _drawn(file: pathlib.Path, kind: str, args: argparse.Namespace) -> bool:
    """Whether this run, and no earlier one, wrote a sheet."""
    return file.exists() and "samples" in args.measure and (kind == "samples" or bool(args.train))


def _slug(name: str) -> str:
    return "_".join(pathlib.Path(name.removesuffix(".safetensors")).parts[-2:]).replace("/", "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("priors", nargs="+", help="embedded names, folders or .safetensors files")
    parser.add_argument("--images", required=True, help="folder of held-out pictures")
    parser.add_argument("--train", action="append", default=[], help="folder or zip of training images")
    parser.add_argument("--real", action="append", default=[], help="folder or zip of real images for KID (--images)")
    parser.add_argument("--samples", type=int, default=64, help="unconditional draws (64)")
    parser.add_argument("--sample-steps", type=int, default=100, help="steps of a draw (100)")
    parser.add_argument("--sampler", choices=UNCONDITIONAL, default="ddpm", help="how samples are drawn (ddpm)")
    parser.add_argument("--steps", type=int, default=100, help="steps of DPS (100)")
    parser.add_argument("--draws", type=int, default=1, help="draws of the noise, and restorations, an image (1)")
    parser.add_argument("--noise-std", type=float, default=0.05, help="noise of the measurement (0.05)")
    parser.add_argument("--zeta-box", type=float, default=4.0, help="DPS's step size for the box (4)")
    parser.add_argument("--zeta-blur", type=float, default=8.0, help="DPS's step size for the blur (8)")
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=MEASURES, help="what to measure (everything)")
    parser.add_argument("--weak", help="a weaker prior, which guides the first (autoguidance)")
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0], help="weights of the guidance (1)")
    parser.add_argument("--sigma-range", type=float, nargs=2, default=[0.2, 5.0], help="σ at which it acts (0.2 5)")
    parser.add_argument("--out", help="folder for report.html, the table and sample sheets")
    parser.add_argument("--open", action="store_true", help="show report.html in the browser when all is done")
    args = parser.parse_args()
    hosts.use_all_cores()
    try:
        print(markdown(evaluate(args)))
    except ValueError as error:
        print(f"prior_quality: {error}", file=sys.stderr)
        return 2
    if args.out:
        report = pathlib.Path(args.out) / REPORT
        print(f"open {report}", file=sys.stderr)
        if args.open:
            webbrowser.open(report.resolve().as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
