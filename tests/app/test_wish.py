"""What a page may ask for, and the lines that repeat it."""

import shlex
from functools import partial

import numpy as np
import pytest
from PIL import Image as PILImage

import jaxdiff as jd
from jaxdiff.app import texts
from jaxdiff.app.wish import MASK, Wish, command, script, wanted, words
from jaxdiff.cli.main import parse
from jaxdiff.cli.measurement import problem_of
from jaxdiff.cli.method import method_of
from jaxdiff.photos import Framing
from jaxdiff.samplers import METHODS
from jaxdiff.tasks import names

FRAME = Framing(3, 4, 50)
ask = partial(wanted, Wish(""), "inpaint_box", FRAME, False, "", calls=20, draws=4, seed=0)


def parsed(wish):
    return parse(["jaxdiff", *words(wish)])


def test_a_wish_becomes_the_command_line_that_says_it():
    args = parsed(wanted(Wish("", prior="p", label=3), "jpeg", FRAME, True, "dps", "0,25", calls=30, draws=2, seed=7))
    told = ("jpeg", "3,4,50", True, "dps", "recorded", 30, 2, 7, 0.25, "p", 3)
    names = ("task", "frame", "measured", "method", "settings", "calls", "count", "seed", "noise_std", "prior", "label")
    assert tuple(getattr(args, name) for name in names) == told


def test_what_is_the_default_is_not_said():
    assert command(ask()) == (
        "jaxdiff restore picture.png --frame 3,4,50 --task inpaint_box --calls 20 --count 4 --seed 0 --out restored"
    )
    assert "--mask mask.png" in command(ask()._replace(task=MASK))
    assert shlex.split(command(ask()._replace(prior="a b"))).count("a b") == 1


@pytest.mark.parametrize("task", [*names("default"), MASK])
@pytest.mark.parametrize("calls", [20, 100])
def test_the_script_takes_the_command_line_s_method_and_settings(task, calls):
    problem = jd.Problem.of(jd.operators.denoise(image_shape=(8, 8, 3)), np.zeros((8, 8, 3), np.float32), 0.05)
    wish = ask(calls=calls)._replace(task=task)
    lines = script(wish, problem, (64, 64, 3), exact=False)
    compile(lines, "repeat.py", "exec")
    chosen = method_of(parsed(wish))
    assert f"jd.samplers.{chosen.method}(" in lines
    assert f"grid_within(sampler, denoiser, {chosen.calls})" in lines
    assert all(f"{name}={value!r}" in lines for name, value in (chosen.options or {}).items())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"calls": 0}, "number of network calls must be a whole number from 1 to 1000"),
        ({"calls": None}, "number of network calls"),
        ({"draws": 17}, "number of draws must be a whole number from 1 to 16"),
        ({"draws": float("nan")}, "number of draws"),
        ({"seed": 2**32}, "the seed must be"),
        ({"seed": 0.5}, "the seed must be"),
        ({"noise": "much"}, "noise σ must be a number"),
        ({"noise": "-1"}, "noise σ must be a number"),
        ({"noise": "nan"}, "noise σ must be a number"),
    ],
)
def test_a_number_that_cannot_be_is_refused_in_a_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        ask(**change)


@pytest.mark.parametrize(
    ("task", "method"), [("--out=/etc", ""), ("os:system", ""), ("jpeg", "os:system"), ("jpeg", "--x")]
)
def test_a_page_can_name_neither_options_nor_functions(task, method):
    with pytest.raises(ValueError, match="unknown"):
        wanted(Wish(""), task, None, False, method, calls=20, draws=1, seed=0)


def test_every_method_and_task_has_a_sentence():
    assert [name for _, name in texts.methods()] == ["", *METHODS]
    assert [name for _, name in texts.tasks()] == [*names("default"), MASK]
    said = [texts.of_method(name) for _, name in texts.methods()] + [texts.of_task(name) for _, name in texts.tasks()]
    assert not any(sentence[0].islower() for sentence in said), said
    assert all(sentence.endswith((".", ")")) for sentence in said), said


@pytest.mark.slow
def test_the_tiles_show_what_the_tasks_do():
    with PILImage.open(texts.SHEET) as sheet:
        held = np.asarray(sheet.convert("RGB"), np.float32)
    made = texts.tile_sheet()
    assert made.shape == held.shape == (texts.TILE, texts.TILE * len(texts.tasks()), 3)
    assert np.abs(held - made).mean() < 6  # 128 colours


@pytest.mark.parametrize("task", ["inpaint_random", "motion_blur", "phase_retrieval"])
def test_a_refusal_names_fields_of_the_page_and_no_options(task, tmp_path):
    PILImage.new("RGB", (20, 20)).save(tmp_path / "picture.png")
    wish = wanted(Wish(""), task, None, True, "", calls=20, draws=1, seed=0)
    said = [str(tmp_path / word) if word == "picture.png" else word for word in words(wish)]
    args = parse(["jaxdiff", *said])
    args.image = args.pictures[0]
    with pytest.raises(ValueError, match="--measured") as refused:
        problem_of(args, (16, 16, 3), lambda note: None)
    assert "--" not in texts.on_page(str(refused.value))
    assert "damaged already" in texts.on_page(str(refused.value))
