import argparse
import csv
import dataclasses
import html

import jax
import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import tables, tasks
from jaxdiff.cli import reproduce
from jaxdiff.evaluation.pictures import Picture, from_folder
from jaxdiff.study import cells, claims, paper, report
from jaxdiff.study.page import write_page_of_study
from jaxdiff.study.paper import Results, Study


def results_with(psnr):
    """Rows of a made-up study whose PSNR is given by ``psnr(method, task, std)``."""
    study = Study(forward_steps=(10, 100))
    rows = []
    for n, value in ((10, 40.0), (100, 30.0)):
        for inside in (True, False):
            for image in range(3):
                shared = {"image": f"{inside}{image}", "in_distribution": inside, "seed": 0, "ssim": 0.9}
                rows.append(
                    {"table": 1, "forward_steps": n, "psnr": value + image - 5 * (not inside), "lpips": 1 / value}
                    | shared
                )
    for method in study.methods:
        for task in study.tasks:
            for std in study.noise_stds:
                row = {"table": 2, "method": method, "task": task, "noise_std": std, "image": "a", "seed": 0}
                seconds = {"sdedit": 1.0, "score_ald": 2.0, "dps": 5.0}[method]
                rows.append(
                    row
                    | {
                        "psnr": psnr(method, task, std),
                        "lpips": 0.1,
                        "ssim": 0.9,
                        "seconds": seconds,
                        "network_calls": 10,
                    }
                )
    return Results(rows, np.zeros((0, 4, 4, 3)), {}), study


def ordered(method, task, std):
    return {"sdedit": 20, "score_ald": 23, "dps": 28}[method] + (2 if task == "inpainting" else 0) - std


def test_mean_and_standard_error():
    cell = cells.mean_and_error([1.0, 2.0, 3.0, 4.0])
    assert cell.mean == 2.5
    np.testing.assert_allclose(cell.error, np.sqrt(5 / 3) / 2)
    assert cell.text(2) == "2.50±0.65"
    assert cells.mean_and_error([7.0]).text(1) == "7.0"
    assert cells.mean_and_error([]).text(1) == "–"


def test_what_is_not_known_is_a_dash():
    assert tables.rounded(np.nan, 3) == "–"
    assert tables.rounded(0.1234, 3) == "0.123"
    assert tables.rounded(0.1234, 2, error=0.05) == "0.12 ± 0.05"


def test_a_face_and_another_picture_of_one_name_are_told_apart(tiny, tmp_path):
    for name in ("faces/1.png", "cats/1.png", "cats/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PILImage.new("RGB", (32, 32)).save(tmp_path / name)
    args = argparse.Namespace(images=str(tmp_path / "faces"), ood=str(tmp_path / "cats"), count=None)
    found = reproduce._pictures(args, tiny, bar=None)
    assert [(p.name, p.in_distribution) for p in found] == [("1", True), ("1 (out)", False), ("2", False)]


def test_a_caption_is_that_of_the_run_it_names():
    rows = [{"image": "a", "seed": seed, "psnr": 20.0 + seed, "lpips": 0.1} for seed in (3, 1)]
    assert cells.caption(rows, image="a", seed=3) == "23.0 dB, LPIPS 0.100"
    assert cells.caption([{**rows[0], "psnr": np.nan}], seed=3) == "diverged"


def test_seeds_of_one_image_are_one():
    """Two images, whatever the number of seeds: the error is that of two means."""
    results, study = results_with(ordered)
    rows = [row | {"image": image, "seed": seed} for row in results.rows for image in "ab" for seed in range(4)]
    for row in rows:
        row["psnr"] = {"a": 20.0, "b": 22.0}[row["image"]] + 0.1 * (row["seed"] % 2)
    _, lines = report.table_2(Results(rows, results.samples, {}), study, ["inpainting"])
    assert {line[2] for line in lines} == {"21.05±1.00"}


def test_pictures_of_sub_folders_have_names_of_their_own(tmp_path):
    for name in ("a/1.png", "b/1.png", "c/1.png"):
        (tmp_path / name).parent.mkdir()
        PILImage.new("RGB", (8, 8)).save(tmp_path / name)
    found = from_folder(tmp_path, (8, 8, 3), in_distribution=True)
    assert [picture.name for picture in found] == ["a/1", "b/1", "c/1"]
    PILImage.new("RGB", (8, 8)).save(tmp_path / "c" / "1.jpg")
    assert {picture.name for picture in from_folder(tmp_path, (8, 8, 3), in_distribution=True)} >= {
        "c/1.jpg",
        "c/1.png",
    }


def test_what_a_study_refuses(tiny, small_study):
    twice = [picture._replace(name="same") for picture in pictures()]
    with pytest.raises(ValueError, match="two pictures have the same name"):
        paper.run_study(small_study, tiny, twice)
    with pytest.raises(ValueError, match="LPIPS, which needs images of at least 31"):
        paper.run_study(small_study, tiny.replace(image_shape=(16, 16, 3)), pictures())


def test_claims_hold_where_they_do():
    verdicts = [claim.holds for claim in claims.claims(*results_with(ordered), drift={10: 0.0, 100: -0.1})]
    assert len(verdicts) == 8
    assert all(verdicts)


@pytest.mark.parametrize(
    ("psnr", "word"),
    [
        (lambda m, t, s: ordered(m, t, s) if m != "dps" else 22.5, "DPS > Score ALD"),
        (lambda m, t, s: ordered(m, t, s) - (5 if t == "inpainting" else 0), "Inpainting is easier"),
        (lambda m, t, s: ordered(m, t, s) - 30 * s, "little effect"),
    ],
)
def test_claims_fail_where_they_do_not(psnr, word):
    failed = [claim.sentence for claim in claims.claims(*results_with(psnr)) if not claim.holds]
    assert any(word in sentence for sentence in failed)


def test_one_noise_level_tells_nothing_of_its_effect():
    results, study = results_with(ordered)
    found = claims.claims(results, dataclasses.replace(study, noise_stds=study.noise_stds[:1]))
    assert [claim.sentence for claim in found if "noise level has" in claim.sentence] == []
    assert len(found) == 6


def test_the_settings_of_each_method_are_told():
    header, lines = report.settings_of_methods(paper.Study(prior="faces64"))
    found = {(line[1], line[2]): line[3] for line in lines if line[0] == "Table 2"}
    assert header[:3] == ["table", "on", "method"]
    assert found["deconvolution", "SDEdit"] == "start = 500"  # half of the schedule, as the study's run times say
    assert len(found) == 6


def test_a_run_that_diverged_is_named_and_upholds_no_claim():
    assert report.diverged(results_with(ordered)[0]) == ""
    lost = lambda m, t, s: np.nan if (m, t, s) == ("dps", "inpainting", 0.05) else ordered(m, t, s)  # noqa: E731
    results, study = results_with(lost)
    failed = {claim.sentence.split("(")[0]: claim.seen for claim in claims.claims(results, study) if not claim.holds}
    assert set(failed) >= {"The noise level has little effect ", "Inpainting is easier than deconvolution "}
    assert failed["The noise level has little effect "] == "largest change – dB, DPS on inpainting"
    assert "1 of 30 runs diverged (DPS on inpainting)" in report.diverged(results)
    _, lines = report.table_2(results, study, ["inpainting"])
    assert [line[2] for line in lines if line[0] == "DPS"][1] == "–"


def test_a_drift_away_from_faces_does_not_count():
    found = claims.claims(*results_with(ordered), drift={10: -0.1, 100: 0.2})
    assert [c.holds for c in found if "drifts" in c.sentence] == [False]


def test_the_drift_is_the_mean_over_pairs_of_another_picture_and_a_face():
    """Distance |a − b| of flat pictures: others at 4 and 8 come out at 3 and 5, the faces are at 0 and 1."""
    flat = lambda value: np.full((2, 2, 1), float(value))  # noqa: E731
    triplets = [(flat(9), flat(truth), flat(restored)) for truth, restored in ((0, 0), (1, 1), (4, 3), (8, 5))]
    rows = [{"table": 1, "image": str(i), "in_distribution": i < 2} for i in range(4)]
    results = Results(rows, np.zeros((0, 2, 2, 1)), {10: triplets})
    drift = claims.face_drift(results, Study(forward_steps=(10,)), lambda a, b: np.abs(a - b).mean(axis=(1, 2, 3)))
    assert drift == {10: -2.0}


def test_the_study_s_own_numbers_satisfy_its_claims():
    """A check of the table against the text: STUDY_TABLE_2 in, the ordering claim out."""

    def psnr(method, task, std):
        return report.STUDY_TABLE_2[method, std][0 if task == "deconvolution" else 2]

    found = claims.claims(*results_with(psnr))
    assert [c.holds for c in found if "DPS > Score ALD" in c.sentence] == [True]


@pytest.fixture(scope="module")
def small_study():
    return Study(steps=4, forward_steps=(2, 5), noise_stds=(0.05, 0.1), samples=2, seeds=(3, 1))


def pictures():
    values = jax.random.uniform(jax.random.key(0), (3, 32, 32, 3), minval=-1)
    return [Picture(f"p{i}", np.asarray(v), i < 2) for i, v in enumerate(values)]


def test_a_whole_study_on_a_tiny_prior(tiny, small_study, tmp_path, monkeypatch):
    def quickly(images, truths, problems):
        """LPIPS takes more time than all the rest here; its own tests are elsewhere."""
        error = ((images - truths) ** 2).mean(axis=(1, 2, 3))
        assert len(problems.y) == len(images)
        return {"psnr": -10 * np.log10(error / 4), "ssim": 1 - error, "lpips": error, "misfit": error}

    monkeypatch.setattr(paper, "scores", quickly)
    stages = paper.plan(small_study, tiny, 2, 1)
    counted = dict.fromkeys(stages, 0)

    def bar(stage):
        return lambda n: counted.__setitem__(stage, counted[stage] + n)

    results = paper.run_study(small_study, tiny, pictures(), report=bar, resume=tmp_path)
    assert counted == {name: total for name, (total, _) in stages.items()}, "the bar reaches its end exactly"
    first = [row for row in results.rows if row["table"] == 1]
    second = [row for row in results.rows if row["table"] == 2]
    assert len(first) == 2 * 3 * 2
    assert len(second) == 3 * 2 * 2 * 2 * 2
    third = [row for row in results.rows if row["table"] == 3]
    assert len(third) == (1 + 1 + 3) * 2 * 2
    assert {row["task"] for row in third if row["method"] == "dps"} == {"half the side"}
    assert all(np.isfinite(row["psnr"]) for row in results.rows)
    out = tmp_path / "out"
    out.mkdir()
    written = report.write_report(out, results, small_study, "about", claims.claims(results, small_study))
    assert {p.name for p in written} == {p.name for p in out.iterdir()}
    assert {"report.md", "table1.csv", "table2.csv", "table3.csv", "runs.csv", "figure1.png", "figure5.png"} <= {
        p.name for p in written
    }
    with open(out / "runs.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(results.rows)

    # A second run takes every stage from where the first left it, and gives the same rows.
    again = paper.run_study(small_study, tiny, pictures(), resume=tmp_path)
    assert again.rows == results.rows
    judged = claims.claims(results, small_study)
    pages = [
        write_page_of_study(out, found, small_study, "about", judged, {"seed": "0"}).read_text("utf-8")
        for found in (results, again)
    ]
    assert pages[0] == pages[1]
    assert pages[0].count("<img id=") == 3 * 2 * 2 + 2 * 2 * 5 + 2, "Table 1, Table 2 and the draws"
    assert all(claim.sentence in html.unescape(pages[0]) for claim in judged)


@pytest.mark.parametrize(("prior", "searched"), [("faces64", {"sdedit"}), ("checkpoints/another", set())])
def test_table_3_runs_what_differs_from_table_2(prior, searched):
    """A prior that was never searched has the same settings in both tables: only the harder mask is run again."""
    study = Study(prior=prior)
    runs = {(stage.column, stage.method) for stage in study.stages() if stage.table == 3}
    assert runs == {(task, m) for task in study.tasks for m in searched} | {("half the side", m) for m in study.methods}


def test_a_cell_that_table_3_takes_from_table_2_has_the_same_operator():
    study, x = Study(), np.random.default_rng(0).uniform(-1, 1, (64, 64, 3)).astype(np.float32)
    for column, theirs in study.tasks.items():
        np.testing.assert_array_equal(*(tasks.get(name, x.shape).operator(x) for name in (study.own[column], theirs)))


def test_table_3_takes_what_did_not_change_from_table_2():
    results, study = results_with(ordered)
    rows = [row | {"table": 3, "psnr": 21.5} for row in results.rows if row["table"] == 2 and row["method"] == "sdedit"]
    header, lines = report.table_3(Results(results.rows + rows, results.samples, {}), study)
    cells = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert cells["SDEdit"]["deconvolution PSNR"] == "21.50"
    assert cells["DPS"]["deconvolution PSNR"] == "27.95"
    assert cells["DPS"]["half the side PSNR"] == "–"


def test_markdown_is_aligned():
    text = report.markdown(["a", "long header"], [["1", "2"], ["333", "4"]])
    assert len({len(line) for line in text.splitlines()}) == 1
