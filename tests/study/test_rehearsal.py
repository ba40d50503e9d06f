"""The study's own setting, from a checkpoint as torch writes it to the report, by the commands that a user types."""

import csv
import math

import numpy as np
import pytest
from PIL import Image as PILImage

from benchmarks.parity_unet import recipe
from jaxdiff.cli import entry_point
from jaxdiff.models import parameter_shapes
from tests.support.networks import small_unet
from tests.weights_convert.conftest import TorchFiles
from weights_convert.guided_diffusion import torch_shapes

FFHQ = {"out_channels": 6, "use_scale_shift_norm": True, "resblock_updown": True}
"""What FFHQ-256's network has besides its size; so has the one here, at 32×32."""
STEPS = 30


def command(*words):
    with pytest.raises(SystemExit) as stop:
        entry_point(["jaxdiff", *map(str, words)])
    assert not stop.value.code


@pytest.mark.slow
def test_the_whole_study_on_a_converted_checkpoint(tmp_path):
    """One face and one other picture, a seed that is not 0, and every step of a short schedule."""
    for place, folder in enumerate(("faces", "animals")):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(place).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).resize((300, 280)).save(tmp_path / folder / "1.png")
    network = small_unet(image_size=32, channel_mult=(1, 1), **FFHQ)
    checkpoint = TorchFiles(tmp_path).checkpoint("small.pt", recipe(torch_shapes(parameter_shapes(network))))
    prior, out = tmp_path / "prior", tmp_path / "out"
    command("convert", checkpoint, prior, "--image-size", 32, "--num-head-channels", 32, "--steps", STEPS)
    folders = ("--images", tmp_path / "faces", "--ood", tmp_path / "animals")
    command("reproduce", "--prior", prior, *folders, "--seeds", 2, "--full", "--out", out)

    made = {path.name for path in out.iterdir()}
    tables = {f"{name}.csv" for name in ("runs", "run_times", "table1", "table2", "table3")}
    assert made == tables | {f"figure{n}.png" for n in range(1, 6)} | {"report.md", "report.html"}
    told = (out / "report.md").read_text("utf-8")
    assert "32×32 pixels" in told
    assert f"{STEPS} reverse steps of {STEPS}" in told
    with open(out / "runs.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = [(row["method"], row["task"], row["noise_std"]) for row in rows if row["table"] == "2"]
    assert len(cells) == len(set(cells)) == 3 * 2 * 3
    assert {row["seed"] for row in rows} == {"2"}
    assert all(math.isfinite(float(row[score])) for row in rows for score in ("psnr", "ssim", "lpips"))
