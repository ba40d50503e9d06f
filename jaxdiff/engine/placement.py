"""Where a batch goes: over which devices, and how large it may be."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from jaxdiff import memory
from jaxdiff.typing import PyTree

__all__ = ["Placement", "available_memory", "choose_devices", "largest_batch", "make_room"]

MOST = {"cpu": 16}
"""Runs at a time on all devices of a host: beyond it a CPU is no faster, and its caches are too small."""
MOST_AN_ACCELERATOR = 256
SPARE = 0.1
"""Part of the memory that is left to others: the allocator's fragments, metrics, other programs."""


class Placement(NamedTuple):
    """Devices in a row named "batch": a batch is split over them, everything else is on each."""

    mesh: Mesh

    @property
    def width(self) -> int:
        """Number of devices."""
        return self.mesh.devices.size

    def split(self, tree: PyTree) -> PyTree:
        """Put arrays with a first axis B on the devices, B/width on each."""
        return jax.device_put(tree, self._place("batch"))

    def split_shapes(self, tree: PyTree) -> PyTree:
        """Shapes, types and places of what ``split`` would give."""
        where = self._place("batch")
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree)

    def whole(self, tree: PyTree) -> PyTree:
        """Put all of it on every device (copied once; what is there already stays)."""
        return jax.device_put(tree, self._place())

    def _place(self, *axes: str) -> Sharding:
        """Where an array goes whose first axes are these."""
        if self.width == 1:  # no mesh: it would be a part of the arrays' types, and traces without one would not fit
            return SingleDeviceSharding(self.mesh.devices.flat[0])
        return NamedSharding(self.mesh, P(*axes))

    def shard(self, function: Callable, batched: tuple[bool, ...]) -> Callable:
        """``function`` on each device's part of the batch, with no communication between devices.

        Args:
            function: takes and returns pytrees whose batched leaves have a first axis B.
            batched: for each argument, whether it is split or whole.
        """
        if self.width == 1:
            return function
        specs = tuple(P("batch") if split else P() for split in batched)
        return _shard_map(function, self.mesh, specs)


def _shard_map(function: Callable, mesh: Mesh, specs: tuple[P, ...]) -> Callable:
    # The names moved in JAX 0.7; the checks know nothing of custom primitives.
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P("batch"), check_vma=False)
    from jax.experimental.shard_map import shard_map

    return shard_map(function, mesh=mesh, in_specs=specs, out_specs=P("batch"), check_rep=False)


def choose_devices(devices: int | Sequence[jax.Device] | None, count: int) -> Placement:
    """The devices of a run: this host's, the first ``devices`` of them, or those given; never more than runs.

    Raises:
        ValueError: if there are not as many.
    """
    here: Sequence[jax.Device] = jax.local_devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(here):
            raise ValueError(f"devices={devices} is not possible: this process has {len(here)}.")
        chosen = here[:devices]
    else:
        chosen = here if devices is None else list(devices)
    if not len(chosen):
        raise ValueError("devices is empty; name at least one, or None for all of this process.")
    return Placement(Mesh(np.asarray(chosen[: max(1, count)]), ("batch",)))


def available_memory(device: jax.Device) -> float:
    """Bytes that a program may still use on a device: the allocator's limit, or what the machine has free."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    if device.platform != "cpu":
        return math.inf
    same = sum(other.platform == "cpu" for other in jax.local_devices())
    return memory.free() / max(1, same)


def make_room(placement: Placement, needed: float) -> None:
    """Before a program of ``needed`` bytes a CPU device: what is kept unused goes back, unless as much is free anyway."""
    if placement.mesh.devices.flat[0].platform == "cpu":
        memory.make_room(needed * placement.width)


def largest_batch(count: int, placement: Placement, needs: Callable[[int], float]) -> tuple[int, bool]:
    """The batch size for ``count`` runs: all at once if they fit, else equal batches as large as memory allows.

    The compiled program itself says what it needs, so nothing has to crash to find out.

    Args:
        count: number of runs.
        placement: the devices.
        needs: bytes a device for a batch of this many runs (compiles that program).

    Returns:
        A multiple of the number of devices, and whether the program for it fits.
    """
    first = placement.mesh.devices.flat[0]
    limit = (1 - SPARE) * available_memory(first)
    most = MOST.get(first.platform, MOST_AN_ACCELERATOR * placement.width)
    local = _even(count, max(1, most // placement.width), placement.width)
    before = (0, 0.0)
    while True:
        needed = needs(local * placement.width)
        if needed <= limit or local == 1:
            return local * placement.width, needed <= limit
        # On a line through the last two answers: weights are a share that does not shrink with the batch.
        slope = (needed - before[1]) / (local - before[0])
        fits = int(local - (needed - limit) / slope) if slope > 0 else 1
        before = (local, needed)
        local = _even(count, max(1, min(local - 1, fits)), placement.width)


def _even(count: int, most: int, devices: int) -> int:
    """Runs a device and batch: no more than ``most``, spread so that the last batch is as full as the others."""
    batches = math.ceil(count / (most * devices))
    return math.ceil(count / (batches * devices))
