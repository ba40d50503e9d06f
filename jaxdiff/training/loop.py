"""The training run: data in, checkpoints and a prior out; killed and started again it goes on where it was."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdiff import checkpoints as priors
from jaxdiff.denoisers import Denoiser
from jaxdiff.files import one_sentence, save_image
from jaxdiff.models import PriorConfig
from jaxdiff.plots import sheet
from jaxdiff.profiling import Trace
from jaxdiff.training.config import TrainConfig
from jaxdiff.training.data import Dataset, Stream, prepare, stream
from jaxdiff.training.evaluate import denoising_scores, draw
from jaxdiff.training.folder import alone, best_path, claim, export_averages, made, prior_paths
from jaxdiff.training.page import write_report
from jaxdiff.training.report import Progress, Table, draw_curve
from jaxdiff.training.start import added_parameters, initial, teachers_of, unlike
from jaxdiff.training.state import (
    TrainState,
    data_mesh,
    ema_name,
    init_state,
    learning_rate,
    make_update,
    network,
)
from jaxdiff.training.stop import Stop, told_to_stop
from jaxdiff.training.storage import Checkpoints
from jaxdiff.training.writers import Writer
from jaxdiff.typing import PyTree

__all__ = ["Result", "denoiser_of", "train"]

_LOG = ("step", "images", "loss", "mse", "vlb", "grad_norm", "learning_rate", "images_per_second", "seconds")
_EVALUATION = ("step", "images", "t", "psnr", "eps_mse")


class Result(NamedTuple):
    """How a call of ``train`` ended.

    Attributes:
        state: parameters, moments and averages.
        step: updates done.
        finished: False where it was told to stop before the last step.
    """

    state: TrainState
    step: int
    finished: bool


def denoiser_of(config: TrainConfig, params: PyTree) -> Denoiser:
    """The denoiser of parameters that are being trained."""
    denoiser: Denoiser = priors.denoiser_of(params, config.prior).replace(module=network(config))  # type: ignore[attr-defined]
    return denoiser


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    progress: Progress | None = None,
    stop_at: int | None = None,
    writers: Sequence[Writer] = (),
    trace: Trace | None = None,
) -> Result:
    """Train a prior, or go on with the run that ``out`` holds.

    Writes ``config.json``, ``checkpoints/``, ``log.csv``, ``evaluation.csv``, ``loss.png``, ``report.html``, ``samples/`` and
    the priors ``prior.safetensors`` (first average), ``prior-NAME.safetensors`` (the others) and ``prior-best.safetensors``
    (the first average where its held-out PSNR, averaged over the noise levels, was highest), which ``load_denoiser`` reads.

    Args:
        config: the run.
        out: its folder.
        progress: who is told how it goes; nobody by default.
        stop_at: stop after this many updates, as if told to by Ctrl-C.
        writers: who gets numbers and pictures besides the files, on the first process.
        trace: told of each update.

    Raises:
        ValueError: a configuration that cannot work, no images, or ``out`` holds another run, or other files of these names.
    """
    mesh = data_mesh(_devices(config))
    _check_devices(config, mesh.size)
    out = made(config, out)
    if progress is None or jax.process_index() > 0:
        progress = Progress()
    with alone(out):
        return _train(config, out, mesh, progress, stop_at, writers, trace)


def _train(
    config: TrainConfig,
    out: Path,
    mesh: Any,
    progress: Progress,
    stop_at: int | None,
    writers: Sequence[Writer],
    trace: Trace | None,
) -> Result:
    checkpoints = claim(config, out)
    data = _read_data(config, progress)
    done = checkpoints.latest() or 0
    # A run that goes on no longer needs the weights that it started from.
    start = None if done else initial(config)
    state = jax.device_put(init_state(config, None if start is None else start.params), NamedSharding(mesh, P()))
    batches = _batches(config, data)
    if done:
        state, place = checkpoints.restore(done, state)
        batches.set_state(place)
    told = list(writers) if jax.process_index() == 0 else []
    try:
        for writer in told:
            writer.begin(done, config.to_dict())
        with Stop() as stop:
            progress.say(_summary(config, data, state, mesh.size, done))
            for sentence in [] if start is None else _told_of(start.config, config):
                progress.say(sentence)
            run = _Run(config, out, data, state, done, checkpoints, batches, mesh, progress, told, trace)
            return run.go(stop, config.steps if stop_at is None else min(stop_at, config.steps))
    finally:
        checkpoints.close()
        for writer in told:
            writer.close()
        if trace is not None:
            trace.close()


class _Run:
    """One process's part of a run, from ``done`` updates on."""

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        data: Dataset,
        state: TrainState,
        done: int,
        checkpoints: Checkpoints,
        batches: Stream,
        mesh: Any,
        progress: Progress,
        writers: Sequence[Writer],
        trace: Trace | None,
    ) -> None:
        self.config, self.out, self.data, self.state, self.done = config, out, data, state, done
        self.checkpoints, self.batches, self.progress = checkpoints, batches, progress
        self.writers, self.trace = writers, trace
        self._update = make_update(config, mesh, teachers_of(config))
        self._split = NamedSharding(mesh, P("data"))
        self._main = jax.process_index() == 0
        self._rate = learning_rate(config.optimizer, config.steps)
        self._recent: list[Any] = []
        self._clock = time.monotonic()
        self._compiling = True
        self._untimed = 0.0  # seconds of this interval that went into compiling
        self._log = Table(out / "log.csv", _LOG, done) if self._main else None
        self._evaluation = Table(out / "evaluation.csv", _EVALUATION, done) if self._main else None
        self._seconds = self._log.column("seconds")[-1] if self._log is not None and self._log.rows else 0.0

    def go(self, stop: Stop, last: int) -> Result:
        report, saved = self.config.report, self.done
        if self.done and not self._evaluated(self.done):
            self._make_up_for_evaluation()
        while self.done < last and not told_to_stop(stop, self.done, report.log_every):
            batch = {k: jax.make_array_from_process_local_data(self._split, v) for k, v in next(self.batches).items()}
            self.state, metrics = self._update(self.state, batch)
            self.done += 1
            self._recent.append(metrics)
            if self._compiling:
                jax.block_until_ready(metrics)
                self._compiling, self._untimed = False, time.monotonic() - self._clock
            elif len(self._recent) > 1:
                # At most one update waits in the queue: memory stays bounded and the clock means something.
                jax.block_until_ready(self._recent[-2])
            if self.trace is not None:
                jax.block_until_ready(metrics)
                self.trace()
            if self.done % report.log_every == 0 or self.done == self.config.steps:
                self._write_log()
            else:
                self._advance()
            # Saved first: an evaluation that fails costs no updates, and the next start does not come back to it.
            if self.done % report.checkpoint_every == 0 or self.done == self.config.steps:
                self._save()
                saved = self.done
            self._evaluate_if_due()
        if self.done > saved:
            self._save()
        finished = self.done >= self.config.steps
        if finished and not (self._evaluation is not None and self._evaluated(self.done)):
            self._evaluate()
        elif finished and self._log is not None and self._evaluation is not None:
            # A kill may have come after the last evaluation and before its report.
            write_report(self.out, self.config, self._log, self._evaluation)
        if not finished:
            self.progress.say(
                f"stopped after {self.done} of {self.config.steps} updates; the same command goes on from there."
            )
        return Result(self.state, self.done, finished)

    def _make_up_for_evaluation(self) -> None:
        """Evaluate where a run was stopped after a checkpoint and before its evaluation; if that fails, go on without it."""
        try:
            self._evaluate_if_due()
        except Exception as error:  # of many kinds, as memory that runs out
            self.progress.say(f"the evaluation after {self.done} updates is left out: {one_sentence(error, 200)}")

    def _evaluate_if_due(self) -> None:
        every = self.config.report.eval_every
        if every and self.done % every == 0 and self.done < self.config.steps:
            self._evaluate()

    def _evaluated(self, step: int) -> bool:
        return self._evaluation is not None and step in self._evaluation.column("step")

    def _advance(self, *, line: bool = False) -> None:
        self.progress.advance("train", self.done, self.config.steps, note=self._note(), line=line)

    def _note(self) -> str:
        if self._log is None or not self._log.rows:
            return ""
        row = self._log.rows[-1]
        return f"loss {float(row['loss']):.4f}, {float(row['images_per_second']):.1f} images/s"

    def _write_log(self) -> None:
        values = np.asarray(jax.device_get(self._recent), np.float64)
        if not np.isfinite(values).all():
            weights = self.out / "prior.safetensors"
            start = f", from the last weights with --init {weights}" if self.checkpoints.latest() is not None else ""
            raise ValueError(
                f"the loss is no longer finite at update {self.done}; start a new run (another --out) with a lower "
                f"optimizer.learning_rate or clip_norm{start}."
            )
        now = time.monotonic()
        spent, self._clock = now - self._clock, now
        self._seconds += spent
        updates = len(self._recent) - (self._untimed > 0)
        rate = updates * self.config.optimizer.batch_size / (spent - self._untimed) if updates else float("nan")
        self._recent, self._untimed = [], 0.0
        if self._log is not None:
            loss, mse, vlb, grad_norm = map(float, values.mean(0))
            row = {
                "images": self.done * self.config.optimizer.batch_size,
                "loss": loss,
                "mse": mse,
                "vlb": vlb,
                "grad_norm": grad_norm,
                "learning_rate": float(self._rate(self.done - 1)),
                "images_per_second": rate,
                "seconds": self._seconds,
            }
            self._log.add(step=self.done, **row)
            self._tell({f"train/{name}": value for name, value in row.items()})
            self._advance(line=True)

    def _tell(self, scalars: dict[str, float], images: dict[str, np.ndarray] | None = None) -> None:
        for writer in self.writers:
            writer.write(self.done, scalars, images or {})

    def _save(self) -> None:
        started = time.monotonic()
        if not all(np.isfinite(np.asarray(m)).all() for m in jax.device_get(self._recent)):
            self._write_log()  # refuses, so that a broken state never replaces a good checkpoint
        self.checkpoints.save(self.done, self.state, self.batches.get_state())
        if self._main:
            export_averages(self.config, self.state, prior_paths(self.config, self.out))
        self._clock += time.monotonic() - started

    def _evaluate(self) -> None:
        """Denoise held-out images and draw samples, on the first average and on the first device."""
        config, started = self.config, time.monotonic()
        if self._log is None or self._evaluation is None:
            return
        # Whole on each host already, so a host can use its own copy alone.
        params = jax.tree.map(jnp.asarray, jax.device_get(self.state.ema[ema_name(config.ema[0])]))
        denoiser = denoiser_of(config, params)
        if len(self.data.holdout):
            images = self.data.holdout.astype(np.float32) / 127.5 - 1
            scores = denoising_scores(denoiser, images, config.report.times, labels=self.data.holdout_labels)
            best = _best(self._evaluation)
            for t, psnr, eps in zip(config.report.times, *scores, strict=True):
                self._evaluation.add(
                    step=self.done,
                    images=self.done * config.optimizer.batch_size,
                    t=t,
                    psnr=float(psnr),
                    eps_mse=float(eps),
                )
            mean = float(np.mean(scores.psnr))
            if mean > best:  # NaN is not
                export_averages(config, self.state, {config.ema[0]: best_path(self.out)})
            psnrs = {f"held_out/psnr_t{t}": float(p) for t, p in zip(config.report.times, scores.psnr, strict=True)}
            self._tell(psnrs | {"held_out/psnr": mean})
            text = ", ".join(f"{psnr:.2f} at {t}" for t, psnr in zip(config.report.times, scores.psnr, strict=True))
            self.progress.say(f"held-out PSNR of x̂₀ after {self.done} updates [dB]: {text}")
        if config.report.samples:
            classes = config.prior.unet.num_classes
            wanted = None if classes is None else jnp.arange(config.report.samples) % classes
            images = draw(denoiser, config.report.samples, steps=config.report.sample_steps, labels=wanted)
            (self.out / "samples").mkdir(exist_ok=True)
            drawn = sheet(images)
            save_image(self.out / "samples" / f"step_{self.done:08d}.png", drawn)
            self._tell({}, {"samples": drawn})
        draw_curve(self.out / "loss.png", self._log, self._evaluation, config.report.times)
        write_report(self.out, config, self._log, self._evaluation)
        self._clock += time.monotonic() - started


def _devices(config: TrainConfig) -> list[Any]:
    """All devices; of a single CPU cut into cores as many as the batch can be split over."""
    devices, parts = jax.devices(), config.optimizer.accumulate
    if devices[0].platform != "cpu" or jax.process_count() > 1:
        return devices
    batch = config.optimizer.batch_size
    return devices[: next(n for n in range(len(devices), 0, -1) if n == 1 or batch % (parts * n) == 0)]


def _check_devices(config: TrainConfig, devices: int) -> None:
    batch, parts = config.optimizer.batch_size, config.optimizer.accumulate
    if batch % (parts * devices):
        raise ValueError(
            f"a batch of {batch} cannot be split into {parts} part{'s' * (parts > 1)} on {devices} "
            f"device{'s' * (devices > 1)}; choose a multiple of {parts * devices} for optimizer.batch_size."
        )


def _read_data(config: TrainConfig, progress: Progress) -> Dataset:
    def report(done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            progress.advance("reading images", done, total)

    unet = config.prior.unet
    data = prepare(config.data, unet.image_size, num_classes=unet.num_classes, report=report)
    if data.skipped:
        progress.say(f"skipped {data.skipped} image{'s' * (data.skipped > 1)} that cannot be read")
    if not len(data):
        raise ValueError("every image is held out and none is left to train on; lower data.holdout.")
    return data


def _batches(config: TrainConfig, data: Dataset) -> Stream:
    """This process's share of the batches."""
    return stream(
        data,
        config.prior.unet.image_size,
        config.optimizer.batch_size,
        seed=config.seed,
        flip=config.data.flip,
        workers=config.data.workers,
        shard=(jax.process_index(), jax.process_count()),
    )


def _told_of(start: PriorConfig, config: TrainConfig) -> Iterator[str]:
    """What the user has to know of the weights that a run starts from."""
    if other := unlike(config.prior, start):
        yield f"{config.init} was trained otherwise, and has to change: {other}"
    if added := added_parameters(config.prior, start):
        yield f"{config.init} was grown by {added:,} parameters, which change nothing at first"


def _best(evaluation: Table) -> float:
    """The highest held-out PSNR so far, averaged over the noise levels; -inf where there is none."""
    by_step: dict[float, list[float]] = {}
    for step, psnr in zip(evaluation.column("step"), evaluation.column("psnr"), strict=True):
        by_step.setdefault(step, []).append(psnr)
    return max((float(np.mean(values)) for values in by_step.values()), default=-np.inf)


def _summary(config: TrainConfig, data: Dataset, state: TrainState, devices: int, done: int) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    start = (
        f"going on after {done} updates" if done else "from scratch" if config.init is None else f"from {config.init}"
    )
    return (
        f"{len(data):,} images ({len(data.holdout)} held out, {data.skipped} unreadable), {count:,} parameters, "
        f"{config.prior.prediction}-prediction, {config.dtype}, {devices} device{'s' * (devices > 1)}, {start}"
    )
