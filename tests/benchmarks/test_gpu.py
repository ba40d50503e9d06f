"""The GPU session, rehearsed: every branch runs on a CPU, and what it writes can be used."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PILImage

import jaxdiff as jd
from benchmarks.gpu import training


@pytest.mark.slow
def test_the_rehearsal_takes_every_branch(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text("utf-8").splitlines()]
    stages = {row["stage"] for row in rows}
    assert stages == {"begin", "parity", "matrix rate", "speed", "trace", "training", "weights", "end"}
    parity = {(row["what"], row["precision"]): row["error"] for row in rows if row["stage"] == "parity"}
    assert {precision for _, precision in parity} == {"float32", "TF32", "bfloat16 products"}
    assert parity["recorded run ddpm_20", "float32"] < 2e-5
    speed = [row for row in rows if row["stage"] == "speed"]
    assert {(row["what"], row["dtype"]) for row in speed} == {
        (what, dtype) for what in ("forward", "guided step") for dtype in ("float32", "bfloat16")
    }
    assert all(row["images_per_s"] > 0 and row["flops"] > 0 for row in speed)
    assert (tmp_path / "out" / "trace.tar.gz").stat().st_size > 1000
    weights = [row["file"] for row in rows if row["stage"] == "weights"]
    assert len(set(weights)) == 2
    denoiser = jd.load_denoiser(tmp_path / "out" / weights[0])
    assert np.isfinite(denoiser(np.zeros(denoiser.image_shape, np.float32), 10).x0).all()


def test_faces_of_some_sets_are_drawn_more_often(tmp_path):
    import zipfile

    PILImage.fromarray(np.full((20, 24, 3), 200, np.uint8)).save(tmp_path / "face.png")
    for name in ("ffhq64_train.zip", "others.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(tmp_path / "face.png", "face.png")
    images, weights = training.images_of([tmp_path / "ffhq64_train.zip", tmp_path / "others.zip"], 16)
    assert images.shape == (2, 16, 16, 3)
    assert (images == 200).all()
    assert weights.tolist() == [4, 1]
