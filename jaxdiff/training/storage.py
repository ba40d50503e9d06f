"""Checkpoints of a run: written whole or not at all, and taken up again exactly."""

import json
from pathlib import Path
from typing import Any

import jax

from jaxdiff.training.state import TrainState
from jaxdiff.typing import PyTree

__all__ = ["Checkpoints"]


class Checkpoints:
    """The checkpoints of one run, by number of updates.

    Each holds the whole state by name and the place in the stream of images. Orbax writes into a temporary folder and
    renames it, so a kill at any moment leaves the checkpoints before it.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        import orbax.checkpoint as ocp

        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def latest(self) -> int | None:
        """Updates done at the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, place: dict[str, Any]) -> None:
        """Write a checkpoint; returns when it is on disk."""
        args = self._ocp.args
        # The place goes in as text: only the input pipeline knows its contents.
        composite = args.Composite(state=args.StandardSave(state), place=args.JsonSave({"place": json.dumps(place)}))
        self._manager.save(step, args=composite, force=True)
        self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Read a checkpoint into the shapes, types and devices of ``like``.

        Raises:
            ValueError: the checkpoint is damaged or of another network.
        """
        args = self._ocp.args
        try:
            composite = args.Composite(state=args.StandardRestore(_abstract(like)), place=args.JsonRestore())
            restored = self._manager.restore(step, args=composite)
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"checkpoint {step} in {self._manager.directory} cannot be taken up ({first}); delete that folder to "
                "go on from the one before, or choose another --out."
            ) from error
        return restored["state"], json.loads(restored["place"]["place"])

    def read(self, step: int) -> tuple[PyTree, dict[str, Any]]:
        """A checkpoint as plain nested dictionaries of arrays, without knowing the run, and the place in the stream."""
        args = self._ocp.args
        restored = self._manager.restore(
            step, args=args.Composite(state=args.StandardRestore(), place=args.JsonRestore())
        )
        return restored["state"], json.loads(restored["place"]["place"])

    def close(self) -> None:
        """Wait for and let go of everything."""
        self._manager.close()


def _abstract(state: TrainState) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
