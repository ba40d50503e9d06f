"""The leaderboard: cells are matched in calls, kept one by one, and the best of each task becomes the default."""

import csv
import json
import sys

import numpy as np
import pytest
from flax import struct
from PIL import Image as PILImage

import jaxdiff as jd
from benchmarks import leaderboard
from jaxdiff.diffusion import eps_from_x0
from jaxdiff.tasks.choice import default_for


@struct.dataclass
class Smooth:
    """x̂₀ = x_t shrunk: enough of a prior to run."""

    schedule: jd.NoiseSchedule
    image_shape: tuple = struct.field(pytree_node=False, default=())

    def __call__(self, x_t, t, s=None):
        level = self.schedule.at(t)
        x0 = 0.5 * level.alpha_bar**0.5 * x_t
        return jd.Prediction(x0, eps_from_x0(x_t, x0, level), None)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the script on two little pictures; the rows that it leaves."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    untuned = tmp_path / "untuned.json"  # what was searched for the embedded prior does not matter here
    untuned.write_text("{}", "utf-8")
    rng = np.random.default_rng(0)
    for i in range(2):
        PILImage.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(pictures / f"{i}.png")
    priors = {"faces64": Smooth(jd.schedules.linear(1000), image_shape=(32, 32, 3))}
    monkeypatch.setattr(leaderboard.jd, "load_denoiser", priors.__getitem__)
    started = []
    real = leaderboard.run_cell
    monkeypatch.setattr(leaderboard, "run_cell", lambda cell, *rest: started.append(cell) or real(cell, *rest))

    def call(*flags):
        started.clear()
        shared = ("--images", str(pictures), "--results", str(tmp_path), "--defaults", str(tmp_path / "defaults.json"))
        shared += ("--settings", str(untuned))
        monkeypatch.setattr(sys, "argv", ["leaderboard", *shared, *flags])
        leaderboard.main()
        path = tmp_path / "leaderboard.csv"
        if not path.exists():
            return [], len(started)
        with open(path, encoding="utf-8") as file:
            return list(csv.DictReader(file)), len(started)

    call.priors = priors
    return call


FLAGS = ("--tasks", "inpaint_box", "phase_retrieval", "--methods", "ddrm", "sitcom", "daps", "--calls", "20")


def best_of(rows, task):
    """The row of the best PSNR."""
    return max((row for row in rows if row["task"] == task and row["status"] == "ok"), key=lambda r: float(r["psnr"]))


@pytest.mark.slow
def test_cells_are_matched_refused_kept_and_settled(run, tmp_path):
    rows, started = run(*FLAGS, "--settle")
    assert started == len(rows) == 6
    status = {(row["task"], row["method"]): row["status"] for row in rows}
    assert status["inpaint_box", "ddrm"] == "ok"
    assert "singular value" in status["phase_retrieval", "ddrm"]
    assert "more than 20 network calls" in status["inpaint_box", "sitcom"], "31 calls a step"
    daps = next(row for row in rows if row["method"] == "daps")
    assert (daps["steps"], daps["network_calls"], daps["backward_passes"]) == ("4", "20", "0")

    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    assert "## phase_retrieval, 20 calls, 2 pictures" in text
    line = next(line for line in text.splitlines() if line.startswith("| sitcom"))
    assert line.count("–") == 6
    glance = text[text.index("## Every method at a glance") : text.index("## inpaint_box, 20 calls")]
    scored = {row["task"]: float(row["psnr"]) for row in rows if row["method"] == "ddrm" and row["status"] == "ok"}
    cells = [cell.strip(" *") for cell in next(line for line in glance.splitlines() if "| ddrm" in line).split("|")]
    assert cells[2:4] == [f"{scored['inpaint_box']:.1f}", "–"], "no figure for phase retrieval"
    assert float(cells[4]) == pytest.approx(
        float(best_of(rows, "inpaint_box")["psnr"]) - scored["inpaint_box"], abs=0.051
    )
    best = best_of(rows, "inpaint_box")
    assert f"**{float(best['psnr']):.2f} ± {float(best['psnr_se']):.2f}**" in text

    table = json.loads((tmp_path / "defaults.json").read_text("utf-8"))
    assert default_for("inpaint_box", "faces64", 50, table).method == best["method"]
    published = [row for row in rows if row["settings"] == "published"]
    assert default_for("inpaint_box", "another", 50, table).method == best_of(published, "inpaint_box")["method"]
    assert table["published"]["SpectralOperator"][0]["method"] == best_of(published, "inpaint_box")["method"]

    again, started = run(*FLAGS)
    assert started == 0
    assert again == rows


@pytest.mark.slow
def test_cells_of_other_weights_or_options_are_measured_again(run, tmp_path):
    flags = ("--tasks", "inpaint_box", "--methods", "ddrm", "daps", "--calls", "20")
    run(*flags)
    run.priors["faces64"] = Smooth(jd.schedules.cosine(1000), image_shape=(32, 32, 3))
    rows, started = run("--tasks", "inpaint_box", "--methods", "ddrm", "--calls", "20")
    assert (started, len(rows)) == (1, 2)
    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    assert "| daps †" in text
    assert "| ddrm " in text
    assert "| ddrm †" not in text
    settings = tmp_path / "settings.json"
    for zeta, expected in ((1.0, 2), (2.0, 1), (2.0, 0)):
        settings.write_text(json.dumps({"faces64": {"inpaint_box": {"dps": {"zeta": zeta + 1}}}}), "utf-8")
        rows, started = run("--tasks", "inpaint_box", "--methods", "dps", "--calls", "20", "--settings", str(settings))
        assert started == expected
    assert len(rows) == 4


def test_another_noise_level_is_another_table(run, tmp_path, capsys):
    flags = ("--tasks", "inpaint_box", "--methods", "ddrm", "--calls", "20")
    run(*flags)
    before = (tmp_path / "leaderboard.md").read_text("utf-8")
    rows, started = run(*flags, "--noise_std", "0.01")
    assert (started, len(rows)) == (1, 2)
    assert "σ = 0.01 on" in (tmp_path / "leaderboard.md").read_text("utf-8")
    _, started = run(*flags)
    assert started == 0
    assert (tmp_path / "leaderboard.md").read_text("utf-8") == before
    run.priors["faces64"] = Smooth(jd.schedules.linear(1000), image_shape=(16, 16, 3))
    with pytest.raises(SystemExit, match="LPIPS, which needs 31 pixels"):
        run(*flags)


@pytest.mark.slow
def test_it_stops_when_the_time_is_up_and_goes_on(run, capsys):
    rows, started = run(*FLAGS, "--budget-minutes", "0")
    assert (rows, started) == ([], 0) or len(rows) == 1
    assert "left for another time" in capsys.readouterr().out
    rows, _ = run(*FLAGS)
    assert len(rows) == 6


@pytest.mark.slow
def test_budgets_of_fewer_pictures_are_compared_on_those(run, tmp_path):
    flags = ("--tasks", "inpaint_box", "--methods", "ddrm", "dps")
    rows, _ = run(*flags, "--calls", "20", "30:1")
    counts = {(row["method"], row["calls"]): row["images"] for row in rows}
    assert counts["ddrm", "20"] == "2"
    assert counts["ddrm", "30"] == "1"
    firsts = [float(row["psnr_each"].split()[0]) for row in rows]
    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| inpaint_box"))
    assert f" {max(firsts):.2f} |" in line
    path = tmp_path / "leaderboard.csv"
    with open(path, encoding="utf-8") as file:
        kept = [{k: v for k, v in row.items() if not k.endswith("_each")} for row in csv.DictReader(file)]
    with open(path, "w", encoding="utf-8") as file:  # as it was before pictures were kept one by one
        writer = csv.DictWriter(file, kept[0])
        writer.writeheader()
        writer.writerows(kept)
    _, started = run(*flags, "--calls", "20", "30:1")
    assert started == 0
    alone = max(float(row["psnr"]) for row in kept if row["images"] == "1")
    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| inpaint_box"))
    assert f" {alone:.2f} |" in line


def test_a_cell_of_a_larger_budget_on_fewer_pictures_does_not_decide():
    def row(method, calls, images, psnr, each):
        shared = {"task": "jpeg", "status": "ok", "network_calls": "100", "psnr": str(psnr), "psnr_each": each}
        return shared | {"method": method, "calls": str(calls), "images": str(images)}

    rows = [
        row("a", 100, 4, 25.0, "20 20 30 30"),
        row("b", 100, 4, 24.0, "24 24 24 24"),
        row("c", 1000, 2, 22.0, "22 22"),
    ]
    best = {calls: leaderboard.best_within(rows, "jpeg", calls, "psnr") for calls in (100, 1000)}
    assert (best[100][0]["method"], best[100][1]) == ("a", 25.0)
    assert (best[1000][0]["method"], best[1000][1]) == ("b", 24.0)


def test_a_cell_without_network_calls_says_nothing_of_time():
    cell = {"method": "dps", "calls": "20", "images": "2"}
    timed = {"method": "dps", "seconds_per_image": "4.0", "network_calls": "20"}
    assert leaderboard.expected_seconds(cell, [timed | {"network_calls": "0"}]) == 0
    assert leaderboard.expected_seconds(cell, [timed | {"network_calls": "0"}, timed]) == 8
