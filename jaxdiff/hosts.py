"""Devices and hosts: how a CPU becomes several devices, and how several hosts share work."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import jax

__all__ = ["join", "share", "started", "use_all_cores"]

T = TypeVar("T")

MOST_CORES = 16
"""Most devices that a CPU is cut into: ``jd.restore`` puts as many runs side by side there."""


def started() -> bool:
    """Whether JAX has started, so that kernels and devices can no longer be chosen."""
    before = getattr(jax.config, "jax_num_cpu_devices", 1)
    try:
        jax.config.update("jax_num_cpu_devices", max(before, 1) + 1)  # refused from then on, where it changes something
        jax.config.update("jax_num_cpu_devices", before)
    except RuntimeError:
        return True
    except AttributeError:  # a JAX that does not know the setting
        return False
    return False


def use_all_cores() -> None:
    """Let JAX see a CPU as one device a core, so that a batch is split over the cores.

    XLA's own threads keep only part of the cores busy on small images; docs/performance.md has the figures. It does nothing if
    JAX has started already, or if XLA_FLAGS or JAX_NUM_CPU_DEVICES set the number of devices.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError, AttributeError):
        jax.config.update("jax_num_cpu_devices", min(cores, MOST_CORES))


def join() -> None:
    """Connect this process with the others (``jax.distributed``), before anything else is computed.

    On TPU pods, SLURM, Open MPI and Kubernetes JAX finds them by itself. Elsewhere set JAX_COORDINATOR_ADDRESS=host:port,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
        ValueError: if the others cannot be found.
    """
    known = {"JAX_NUM_PROCESSES": "num_processes", "JAX_PROCESS_ID": "process_id"}
    try:
        options: dict[str, Any] = {arg: int(os.environ[name]) for name, arg in known.items() if name in os.environ}
        jax.distributed.initialize(os.environ.get("JAX_COORDINATOR_ADDRESS"), **options)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the other processes cannot be found ({error}); set JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID, or leave --distributed out."
        ) from None


def share(items: Sequence[T]) -> list[T]:
    """This process's part of a list, one in ``jax.process_count()``: processes share work without talking to each other."""
    return list(items)[jax.process_index() :: jax.process_count()]
