"""One command line: one spelling of options with the older ones still taken, hints for mistakes, help with examples."""

import re
import shlex

import pytest

from jaxdiff.cli.main import COMMANDS, parse
from jaxdiff.names import nearest

OLD = {
    "restore a.png --task jpeg --noise_std 0.1 --batch_size 2 --samples 3": {
        "noise_std": 0.1,
        "batch_size": "2",
        "count": 3,
    },
    "sample -n 4 --batch_size=8": {"count": 4, "batch_size": "8"},
    "bench --data d --num_images 2 --tasks jpeg --methods dps --no_pictures --noise_std=0.2 --out o": {
        "images": "d",
        "count": 2,
        "no_pictures": True,
        "noise_std": 0.2,
    },
    "tune --num_images 3 --noise_std 0.1 --batch_size 4": {"count": 3, "noise_std": 0.1, "batch_size": 4},
    "reproduce --num_images 2 --batch_size 1": {"count": 2, "batch_size": "1"},
    "export --batch 2": {"batch_size": 2},
    "train --out o --batch_size 2 --show_config": {"batch_size": 2, "show_config": True},
}


@pytest.mark.parametrize("line", OLD)
def test_older_spellings_are_taken(line):
    args = vars(parse(["jaxdiff", *shlex.split(line)]))
    assert {name: args[name] for name in OLD[line]} == OLD[line]


def help_of(jaxdiff, *words):
    code, out, _ = jaxdiff(*words, "--help")
    assert code == 0
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_groups_and_three_examples_that_parse(jaxdiff, command):
    text = help_of(jaxdiff, command)
    examples = [line.strip() for line in text.partition("examples:")[2].splitlines() if line.startswith("  jaxdiff")]
    assert len(examples) >= 3
    for example in examples:
        parse(shlex.split(example))
    assert sum(example.startswith(f"jaxdiff {command}") for example in examples) >= 2
    assert not re.search(r"--\w+_\w+", text), "options have hyphens"
    for name in ("--samples", "--num-images", "--batch ", "--data "):
        assert command == "train" or name not in text, "older names are not shown"
    if command not in ("info", "tasks", "convert", "doctor", "completion"):
        assert len(re.findall(r"^[a-z ]+:$", text, re.M)) >= 5, "options stand in groups"


def test_the_help_of_restore_says_first_that_it_degrades_the_picture(jaxdiff):
    text = help_of(jaxdiff, "restore")
    assert text.index("Without --measured the picture is degraded first") < text.index("--mask")


def test_the_version_is_told(jaxdiff):
    code, out, _ = jaxdiff("--version")
    assert code == 0
    assert re.fullmatch(r"jaxdiff \d+\.\d+\.\d+\n", out)


def test_an_option_like_no_other_gets_no_hint(jaxdiff):
    _, _, err = jaxdiff("tasks", "--images", "d")
    assert err == "jaxdiff: there is no option --images; see jaxdiff tasks --help.\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("restroe a.png", ["no command restroe", "did you mean restore?"]),
        ("restore a.png --task jpeg --noise-sdt 1", ["no option --noise-sdt", "did you mean --noise-std?"]),
        ("restore a.png --meth dps", ["no option --meth", "--help"]),
        ("restore a.png", ["required: --task"]),
        ("restore", ["required: PICTURE, --task"]),
        ("restore --align", ["required: PICTURE, --task"]),
        ("restore a.png --task jpeg --steps 2 --calls 2", ["not allowed with"]),
        ("restore a.png --task jpeg --steps x", ["--steps", "'x'"]),
        ("sample --nosuchflag", ["no option --nosuchflag"]),
        ("bench --images d", ["required"]),
        ("", ["COMMAND"]),
        ("restore '' --task jpeg", ["the value of pictures is empty"]),
        ("restore none.png 'a\x1b[31m.png' --task jpeg", ["there is no file a\ufffd[31m.png"]),
        ("rest\x1b[31more", ["no command rest\ufffd[31more"]),
    ],
)
def test_wrong_usage_is_one_sentence_with_the_nearest_name(jaxdiff, line, words):
    code, _, err = jaxdiff(*shlex.split(line))
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("jaxdiff: ")
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("dsp", ["tds", "dps", "fps", "daps"], "dps"),
        ("inpainting", ["inpaint_random", "inpaint_box", "outpaint", "denoise"], "inpaint_box"),
        ("restroe", ["reproduce", "restore", "train"], "restore"),
        ("zzz", ["restore"], ""),
        ("x", [], ""),
    ],
)
def test_the_nearest_name(name, known, meant):
    assert nearest(name, known) == meant


def test_convert_is_the_whole_converter(jaxdiff, tmp_path):
    for name in ("guided-diffusion", "export", "lpips"):
        assert name in help_of(jaxdiff, "convert")
    assert "--num-head-channels" in help_of(jaxdiff, "convert", "guided-diffusion")
    code, _, err = jaxdiff("convert", "export", "faces64", tmp_path / "faces64.safetensors")
    assert code == 0, err
    assert (tmp_path / "faces64.safetensors").stat().st_size > 1e6
    code, _, err = jaxdiff("convert", "guided-diffusion", tmp_path / "none.pt", tmp_path / "out")
    assert code == 2
    assert err.startswith("jaxdiff: ")
    assert "none.pt" in err
