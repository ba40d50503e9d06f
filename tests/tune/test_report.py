"""The report of a file of settings: every search in it, the last one first, and no figure that no trial has."""

import json
import re

import pytest

from jaxdiff.tune.report import write_report

TRIALS = [
    {"options": {"zeta": 0.5, "norm": "residual"}, "psnr": 20.0, "ssim": 0.5, "lpips": 0.25},
    {"options": {"zeta": 50.0, "norm": "residual"}, "psnr": 23.5, "ssim": 0.75, "lpips": 0.125},
    {"options": {"zeta": 5.0, "norm": "residual"}, "psnr": None, "ssim": None, "lpips": None, "error": "diverged"},
]
RECORD = {"metric": "psnr", "steps": 10, "noise_std": 0.05, "images": 4, "source": "folder", "trials": TRIALS}


@pytest.fixture
def text(tmp_path):
    held = {"faces64": {"inpaint_box": {"dps": TRIALS[1]["options"]}, "jpeg": {"ddnm": {}}}}
    searches = {"jpeg": {"ddnm": RECORD | {"trials": [TRIALS[0] | {"options": {}}]}}, "inpaint_box": {"dps": RECORD}}
    (tmp_path / "sr4.json").write_text(json.dumps(held | {"provenance": {"faces64": searches}}))
    path = write_report(tmp_path / "sr4.json", ("faces64", "inpaint_box", "dps"), "jaxdiff restore", {})
    assert path == tmp_path / "sr4.report.html"
    return path.read_text("utf-8")


def test_the_last_search_comes_first_and_the_others_follow(text):
    assert re.findall("<h2>(.*)</h2>", text) == ["dps on inpaint_box", "ddnm on jpeg"]
    assert "Use it: jaxdiff restore" in text


def test_the_chosen_setting_is_marked_and_a_lost_one_says_why(text):
    assert "<strong>23.50</strong>" in text
    assert text.count(">chosen</td>") == 2, "one a search"
    assert ">diverged</td>" in text


def test_scores_are_plotted_against_options_of_several_values(text):
    assert re.findall("<h3>(.*)</h3>", text) == ["PSNR against zeta"], "norm has one value, ddnm no option"
    (figure,) = re.findall('data-figure="([^"]*)"', text)
    assert "[0.5, 50.0]" in figure, "in order, and without the trial that diverged"
