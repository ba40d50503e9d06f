"""What a run carries from update to update, and the compiled update."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdiff import diffusion, schedules
from jaxdiff.denoisers import DenoiserLike
from jaxdiff.denoisers.network import noise_label
from jaxdiff.models import PriorConfig, module_of
from jaxdiff.numerics import expand
from jaxdiff.schedules import NoiseSchedule
from jaxdiff.training.config import OptimizerConfig, TrainConfig
from jaxdiff.training.levels import log_normal_timesteps, spread_timesteps
from jaxdiff.training.loss import Losses, denoising_loss, preconditioned_loss, taught
from jaxdiff.typing import Array, Key, PyTree

__all__ = [
    "Metrics",
    "TrainState",
    "batch_loss",
    "data_mesh",
    "ema_name",
    "fresh_params",
    "init_state",
    "learning_rate",
    "make_update",
    "network",
    "optimizer",
    "schedule_of",
]

_NOISE_STREAM, _DROPOUT_STREAM, _TIME_STREAM = 1, 2, 3


@struct.dataclass
class TrainState:
    """Everything that an update changes.

    Attributes:
        step: updates done.
        params: the network's parameters, float32.
        opt_state: AdamW's moments.
        ema: name (see `ema_name`) → moving average of ``params``.
    """

    step: Array
    params: PyTree
    opt_state: PyTree
    ema: dict[str, PyTree]


class Metrics(NamedTuple):
    """What an update reports: means over the batch, and the gradient's global norm before clipping."""

    loss: Array
    mse: Array
    vlb: Array
    grad_norm: Array


def ema_name(decay: float) -> str:
    """The name of a moving average in checkpoints and file names.

    >>> ema_name(0.9999)
    'ema0_9999'
    """
    return f"ema{decay:.15g}".replace(".", "_")


def schedule_of(prior: PriorConfig) -> NoiseSchedule:
    """The noise schedule that a prior's description names."""
    return schedules.named(prior.schedule, prior.num_steps, prior.schedule_range)


def network(config: TrainConfig) -> Any:
    """The network, computing in the run's type."""
    return module_of(config.prior.unet, jnp.dtype(config.dtype))


def learning_rate(config: OptimizerConfig, steps: int) -> Callable[[Any], Array]:
    """The learning rate of update n = 0, 1, …, as a function of n.

    It rises linearly to its peak at n = warmup_steps, never from 0, so that the first update moves too; then it falls as
    a half cosine to ``final_fraction`` of the peak at n = steps, or stays.
    """
    warmup, final = config.warmup_steps, config.final_fraction if config.decay == "cosine" else 1.0

    def rate(n: Any) -> Array:
        n = jnp.asarray(n).astype(jnp.float32)
        risen = jnp.minimum((n + 1) / (warmup + 1), 1.0)
        along = jnp.clip((n - warmup) / max(1, steps - warmup), 0.0, 1.0)
        return config.learning_rate * risen * (final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * along)))

    return rate


def optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Gradient clipping and AdamW with its schedule; weight decay acts on kernels, not on biases and norms."""

    def kernels(params: PyTree) -> PyTree:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    adamw = optax.adamw(
        learning_rate(config, steps), b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=kernels
    )
    whole = optax.chain(clip, adamw)

    def update(gradients: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes its integer counts with floats.
            return whole.update(gradients, state, params)

    return optax.GradientTransformation(whole.init, update)


def fresh_params(config: TrainConfig, key: Key) -> PyTree:
    """Random initial parameters; every residual branch and the output end in zeros."""
    unet = config.prior.unet
    image = jnp.zeros((1, unet.image_size, unet.image_size, unet.in_channels), jnp.float32)
    label: dict[str, Any] = {} if unet.num_classes is None else {"y": jnp.zeros(1, jnp.int32)}
    return network(config).init(key, image, jnp.zeros(1, jnp.int32), **label)["params"]


def init_state(config: TrainConfig, params: PyTree | None = None) -> TrainState:
    """The state before the first update, with fresh parameters unless some are given."""

    def around(params: PyTree) -> TrainState:
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
        averages = {ema_name(decay): params for decay in config.ema}
        return TrainState(
            jnp.zeros((), jnp.int32), params, optimizer(config.optimizer, config.steps).init(params), averages
        )

    # Compiled as one program, which also gives every average a buffer of its own: the update uses up its inputs.
    if params is not None:
        return jax.jit(around)(params)
    return jax.jit(lambda key: around(fresh_params(config, key)))(jax.random.key(config.seed))


def batch_loss(
    params: PyTree,
    batch: dict[str, Array],
    config: TrainConfig,
    schedule: NoiseSchedule,
    key: Key,
    teachers: Sequence[DenoiserLike] = (),
) -> Losses:
    """Losses of each image of a batch, [n]; timestep and noise follow from ``key`` and the image's ``index`` alone.

    Two things are exceptions: dropout masks and the choice of teacher go by an image's place in its part of the batch.

    With ``teachers`` part of the target is their estimate (``jaxdiff.training.loss.taught``).
    """
    prior = config.prior
    x0 = batch["image"].astype(jnp.float32) / 127.5 - 1.0
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, _NOISE_STREAM), batch["index"])

    def draw(key: Key, x0: Array, t: Array) -> tuple[Array, Array]:
        noise = jax.random.normal(key, x0.shape, x0.dtype)
        return noise, diffusion.q_sample(x0, noise, schedule.at(t))

    t = _times(jax.random.fold_in(key, _TIME_STREAM), batch["index"], config, schedule)
    noise, x_t = jax.vmap(draw)(keys, x0, t)
    if teachers:
        estimates = jax.lax.stop_gradient(_ask(teachers, x_t, t, mirror=config.data.flip))
        aim = partial(taught, share=config.loss.teacher_share, half_snr=config.loss.teacher_snr)
        x0, noise = jax.vmap(aim)(x0, x_t, estimates, jax.vmap(schedule.at)(t))
    rngs = {}
    if prior.unet.dropout:
        # One key a micro-batch: the masks are not a function of each image's own number.
        rngs["dropout"] = jax.random.fold_in(jax.random.fold_in(key, _DROPOUT_STREAM), batch["index"][0])
    label: dict[str, Any] = {"y": batch["label"]} if prior.unet.num_classes is not None else {}
    apply = partial(network(config).apply, {"params": params}, train=True, rngs=rngs, **label)
    lossy = _timestep_loss if prior.preconditioning is None else _sigma_loss
    return lossy(apply, config, schedule, x0, noise, x_t, t)


def _times(key: Key, index: Array, config: TrainConfig, schedule: NoiseSchedule) -> Array:
    """The timestep of each image, [n]: whole ones, or fractions where ln σ is drawn."""
    loss = config.loss
    if loss.levels == "log_normal":
        return log_normal_timesteps(key, index, schedule, loss.level_mean, loss.level_std)
    first, count = _times_of_teachers(config, len(index))
    return first + spread_timesteps(key, index, count)


def _timestep_loss(
    apply: Any, config: TrainConfig, schedule: NoiseSchedule, x0: Array, noise: Array, x_t: Array, t: Array
) -> Losses:
    """Losses of a network that is told t."""
    prior = config.prior
    output = apply(x_t, t * (1000.0 / prior.num_steps) if prior.rescale_timesteps else t)

    def one(output: Array, x0: Array, noise: Array, t: Array) -> Losses:
        return denoising_loss(
            output,
            x0,
            noise,
            t,
            schedule,
            prediction=prior.prediction,
            variance=prior.variance,
            vlb_weight=config.loss.vlb_weight,
            **_weighting(config),
        )

    return jax.vmap(one)(output, x0, noise, t)


def _sigma_loss(
    apply: Any, config: TrainConfig, schedule: NoiseSchedule, x0: Array, noise: Array, x_t: Array, t: Array
) -> Losses:
    """Losses of a network that is told σ."""
    del noise
    form = config.prior.preconditioning
    assert form is not None

    def inputs(x_t: Array, t: Array) -> tuple[Array, Array, Array, Array]:
        level = schedule.at(t)
        x = x_t / expand(level.signal, x_t)
        inside, inner = form.inward(x, level.sigma)
        return x, level.sigma, form.scalings(inner).into * inside, noise_label(form, schedule, level.sigma)

    x, sigma, seen, told = jax.vmap(inputs)(x_t, t)
    output = apply(seen, told)[..., : x0.shape[-1]]

    def one(output: Array, x0: Array, x: Array, sigma: Array) -> Losses:
        return preconditioned_loss(output, x0, x, sigma, form, **_weighting(config))

    return jax.vmap(one)(output, x0, x, sigma)


def _weighting(config: TrainConfig) -> dict[str, Any]:
    loss = config.loss
    return {
        "weighting": loss.weighting,
        "min_snr_gamma": loss.min_snr_gamma,
        "min_snr_floor": loss.min_snr_floor,
    }


def _times_of_teachers(config: TrainConfig, n: int) -> tuple[Array, Array]:
    """For each of n images the first timestep of teacher i mod k, and how many it has: 0 and T where it has no limits."""
    every = (0, config.prior.num_steps)
    limits = np.asarray([teacher.times or every for teacher in config.loss.teachers] or [every], np.int32)
    first, last = np.tile(limits, (n // len(limits), 1)).T
    return jnp.asarray(first), jnp.asarray(last - first)


def _ask(teachers: Sequence[DenoiserLike], x_t: Array, t: Array, *, mirror: bool) -> Array:
    """x̂₀ of a batch [n, H, W, C]: image i from teacher i mod k, every other one of those seen in a mirror.

    An image and its mirror image are as likely where ``mirror`` is true; a teacher that does not know so is better on
    average over both. What is learned is the mean over teachers and mirror images, at the cost of one call an image.
    """

    def one(teacher: DenoiserLike, x: Array, t: Array, turned: Array) -> Array:
        x0 = teacher(jnp.where(turned, x[:, ::-1], x), t).x0
        return jnp.where(turned, x0[:, ::-1], x0)

    k = len(teachers)
    parts, times = jnp.reshape(x_t, (-1, k, *x_t.shape[1:])), jnp.reshape(t, (-1, k))
    turned = (jnp.arange(len(parts)) % 2 == 1) & mirror
    answers = [jax.vmap(partial(one, teacher))(parts[:, j], times[:, j], turned) for j, teacher in enumerate(teachers)]
    return jnp.reshape(jnp.stack(answers, 1), x_t.shape)


def data_mesh(devices: Any = None) -> Mesh:
    """All devices of all hosts in one row named "data"."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), ("data",))


def make_update(
    config: TrainConfig, mesh: Mesh, teachers: Sequence[DenoiserLike] = ()
) -> Callable[[TrainState, dict[str, Array]], tuple[TrainState, Metrics]]:
    """Compile one update: losses and gradients of the batch, AdamW, moving averages.

    The batch is split over the mesh's devices and the state is on each of them; the compiler adds the sums between
    them. The state that goes in is used up. ``teachers``: as in ``batch_loss``.
    """
    schedule, parts = schedule_of(config.prior), config.optimizer.accumulate
    transform = optimizer(config.optimizer, config.steps)
    key = jax.random.key(config.seed)
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

    def update(
        state: TrainState, batch: dict[str, Array], teachers: Sequence[DenoiserLike]
    ) -> tuple[TrainState, Metrics]:
        def mean_loss(params: PyTree, batch: dict[str, Array]) -> tuple[Array, Losses]:
            losses = jax.tree.map(jnp.mean, batch_loss(params, batch, config, schedule, key, teachers))
            return losses.total, losses

        gradients, losses = _in_parts(jax.grad(mean_loss, has_aux=True), state.params, batch, parts, mesh)
        changes, opt_state = transform.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        step = state.step + 1
        averages = {ema_name(d): average(state.ema[ema_name(d)], params, d, step) for d in config.ema}
        metrics = Metrics(losses.total, losses.mse, losses.vlb, _norm(gradients))
        return TrainState(step, params, opt_state, averages), metrics

    # Teachers are an argument, not constants: their weights would be written into the program.
    compiled = jax.jit(update, in_shardings=(whole, split, whole), out_shardings=(whole, whole), donate_argnums=0)
    placed = jax.device_put(tuple(teachers), whole)
    return lambda state, batch: compiled(state, batch, placed)


def _in_parts(
    gradient: Callable[[PyTree, dict[str, Array]], tuple[PyTree, Losses]],
    params: PyTree,
    batch: dict[str, Array],
    parts: int,
    mesh: Mesh,
) -> tuple[PyTree, Losses]:
    """The mean of ``gradient(params, part)`` over parts of the batch, one after the other, so that memory holds one."""
    if parts == 1:
        return gradient(params, batch)
    # Every device keeps its own images: element j of each device's share goes into part j mod parts.
    cut = {k: jnp.swapaxes(jnp.reshape(v, (-1, parts, *v.shape[1:])), 0, 1) for k, v in batch.items()}
    cut = {k: jax.lax.with_sharding_constraint(v, NamedSharding(mesh, P(None, "data"))) for k, v in cut.items()}

    def add(total: Any, part: dict[str, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(params, part)), None

    shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda v: v[0], cut))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, cut)
    return jax.tree.map(lambda leaf: leaf / parts, total)


def _norm(tree: PyTree) -> Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def average(old: PyTree, new: PyTree, decay: float, step: Array) -> PyTree:
    """Moving average d·old + (1−d)·new, d = min(decay, (1 + n)/(10 + n)) after n updates: it forgets the start."""
    n = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1 + n) / (10 + n))
    return jax.tree.map(lambda a, b: a + expand(1 - d, a) * (b - a), old, new)
