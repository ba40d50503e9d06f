"""Pictures for the jobs."""

import numpy as np
import pytest
from PIL import Image as PILImage


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five pictures in two folders."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "more").mkdir()
    values = np.random.default_rng(0).integers(0, 255, (5, 6, 6, 3), np.uint8)
    for i, value in enumerate(values):
        name = f"{i}.png" if i < 3 else f"more/{i}.png"
        PILImage.fromarray(value).resize((40, 32)).save(folder / name)
    return folder
