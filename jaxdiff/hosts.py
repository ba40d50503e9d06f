"""Several processes, usually one a host, on one job."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import jax

__all__ = ["join", "share"]

T = TypeVar("T")


def join() -> None:
    """Connect this process with the others (``jax.distributed``), before anything else is computed.

    On TPU pods, SLURM, Open MPI and Kubernetes JAX finds them by itself; elsewhere the environment says it:
    JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

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
