"""Read the averaged parameters of a checkpoint of flax, a stream of msgpack that can hold arrays and nothing that runs."""

import math
from typing import IO, Any

import numpy as np

from weights_convert.arrays import Lazy, Tensors
from weights_convert.pickled import MalformedError

__all__ = ["looks_like_msgpack", "read_params"]

ARRAY, SCALAR = 1, 3
"""Codes that flax gives its extension types."""
FLOATS = ("float16", "float32", "float64", "bfloat16")
MAX_DEPTH = 16
NAMES = ("params_ema", "ema_params", "params")
"""Where the parameters are, averaged ones first."""


def looks_like_msgpack(head: bytes) -> bool:
    """Whether a file begins with a map of msgpack whose first key is a text."""
    first = head[:1]
    size = 1 if b"\x80" < first <= b"\x8f" else {b"\xde": 3, b"\xdf": 5}.get(first, 0)
    return bool(size) and len(head) > size and (0xA0 <= head[size] <= 0xBF or head[size] in (0xD9, 0xDA))


def read_params(file: IO[bytes], size: int) -> tuple[Tensors, str, list[str]]:
    """The parameters as "A/B/c" → array, where they were, and what else was there.

    Only the parameters are kept in memory: the state of the optimiser is stepped over.

    Raises:
        MalformedError: if the file is damaged, or has no parameters.
    """
    import msgpack

    try:
        unpacker = msgpack.Unpacker(
            file, max_buffer_size=size + 1, raw=False, strict_map_key=True, ext_hook=_array, max_ext_len=size
        )
        found: tuple[str, Any] | None = None
        others: list[str] = []
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if key in NAMES and (found is None or NAMES.index(key) < NAMES.index(found[0])):
                others += [found[0]] if found else []
                found = (key, unpacker.unpack())
            else:
                others.append(str(key)[:40])
                unpacker.skip()
    except MalformedError:
        raise
    except Exception as error:  # msgpack raises many kinds for a damaged stream
        raise MalformedError("its msgpack stream is damaged or cut off") from error
    if found is None or not isinstance(found[1], dict):
        raise MalformedError(f"it has no parameters; its keys are {', '.join(others[:8])}")
    return Tensors(_flat(found[1])), found[0], others


def _array(code: int, data: bytes) -> Any:
    """An array of flax; a number or anything else of no use here is None."""
    import msgpack

    if code != ARRAY:
        return None
    shape, dtype, buffer = msgpack.unpackb(data, raw=False)
    if dtype not in FLOATS:
        return None
    import ml_dtypes  # noqa: F401  (teaches numpy the name bfloat16)

    if math.prod(shape) * np.dtype(dtype).itemsize != len(buffer):
        raise MalformedError("one of its arrays has another size than its shape says")
    return np.frombuffer(buffer, dtype).reshape(shape)


def _flat(tree: dict[str, Any]) -> dict[str, Lazy]:
    flat: dict[str, Lazy] = {}
    ahead: list[tuple[str, Any, int]] = [("", tree, 0)]
    while ahead:
        name, node, depth = ahead.pop()
        if isinstance(node, dict) and depth < MAX_DEPTH:
            ahead += reversed([(f"{name}/{key}" if name else str(key), v, depth + 1) for key, v in node.items()])
        elif isinstance(node, np.ndarray):
            value = node.astype(np.float32) if node.dtype.name == "bfloat16" else node
            flat[name] = Lazy(value.shape, value.dtype, lambda value=value: value)  # type: ignore[misc]
        else:
            raise MalformedError(f"its parameter {name} is no array")
    return flat
