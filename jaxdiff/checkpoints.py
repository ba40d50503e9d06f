"""Load and save checkpoints by parameter name; the registry of embedded priors."""

from typing import Any

from jaxdiff.denoisers import Denoiser

__all__ = ["load_denoiser"]


def load_denoiser(name_or_path: str, *, dtype: Any = None, clip: bool = True) -> Denoiser:
    """The denoiser of an embedded prior or a converted checkpoint."""
    raise ValueError(f"no prior is called {name_or_path!r}.")
