"""Parameters, and a prior on disk in both forms."""

import pytest

from jaxdiff.checkpoints import save_checkpoint
from tests.support.priors import CONFIG, random_params


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(params=["orbax", "safetensors"])
def saved(request, params, tmp_path):
    path = tmp_path / ("prior" if request.param == "orbax" else "prior.safetensors")
    save_checkpoint(path, params, CONFIG, metadata={"note": "é"})
    return path
