"""A picture, a mask, and the command as a function."""

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import cli


@pytest.fixture
def jaxdiff(capsys):
    """Run a command line: its exit code, standard output and standard error."""

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            cli.entry_point(["jaxdiff", *map(str, words)])
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def smooth():
    """A smooth 64×64 picture, bytes: enough for the prior to chew on."""
    rows, columns = np.mgrid[:64, :64]
    return np.stack([128 + 60 * np.sin(rows / 9), 128 + 60 * np.cos(columns / 7), 90 + rows], -1).astype(np.uint8)


@pytest.fixture
def face(tmp_path, smooth):
    """The smooth picture as a file."""
    PILImage.fromarray(smooth).save(tmp_path / "face.png")
    return tmp_path / "face.png"
