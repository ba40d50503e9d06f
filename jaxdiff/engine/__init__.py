"""Any number of restorations on any number of devices: batches, sharding, memory, progress, resume."""

from jaxdiff.engine.batches import Glimpse, Outcome
from jaxdiff.engine.programs import forget
from jaxdiff.engine.runs import batch_keys, restore, restore_many
from jaxdiff.numerics import stack

__all__ = ["Glimpse", "Outcome", "batch_keys", "forget", "restore", "restore_many", "stack"]
