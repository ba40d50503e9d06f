"""What goes back to PyTorch is loaded by diffusers itself, and computes what the original did."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxdiff.cli.main import main, parse

FAMILIES = pathlib.Path(__file__).parents[1] / "golden" / "families"
PROGRAM = """
import sys
import numpy, torch
from diffusers import DiffusionPipeline, UNet2DModel

folder, given, found = sys.argv[1:]
data = numpy.load(given)
network = UNet2DModel.from_pretrained(folder, subfolder="unet").eval()
with torch.no_grad():
    out = network(torch.from_numpy(data["x"]), torch.from_numpy(data["t" if "t" in data else "sigma"])).sample
numpy.savez(found, out=out.numpy())
assert type(DiffusionPipeline.from_pretrained(folder).unet) is UNet2DModel
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "diffusers")), reason="needs torch and diffusers"
)
@pytest.mark.parametrize(
    ("source", "flags"),
    [("diffusers_ddpm", []), ("diffusers_ncsnpp", []), ("pesser_ddpm.ckpt", ["--image-size", 16])],
)
def test_diffusers_computes_what_the_original_did(source, flags, tmp_path):
    golden = FAMILIES / f"{source.partition('.')[0]}.npz"
    for words in (
        [FAMILIES / source, tmp_path / "prior", "--no-check", *flags],
        [tmp_path / "prior", tmp_path / "back", "--to", "diffusers"],
    ):
        assert main(parse(["jaxdiff", "convert", *map(str, words)])) == 0
    found = tmp_path / "found.npz"
    subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "back", golden, found], check=True)
    with np.load(golden) as recorded, np.load(found) as ours:
        difference = np.linalg.norm(ours["out"] - recorded["out"]) / np.linalg.norm(recorded["out"])
    assert difference < 1e-5
