"""Configurations: exact round trips, and refusal of what cannot work with a sentence that says why."""

import argparse
import dataclasses
import json

import jax
import pytest

from jaxdiff import schedules
from jaxdiff.checkpoints import load_checkpoint
from jaxdiff.cli.train import add_arguments, config_from, run
from jaxdiff.training import TrainConfig, bundled, load_config
from jaxdiff.training.checks import FEWEST_STEPS
from jaxdiff.training.state import init_state


def _arguments(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.mark.parametrize("name", bundled())
def test_bundled_configurations_are_possible_and_round_trip(name):
    config = load_config(name)
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prior.unet.image_size": 30, "prior.unet.channel_mult": [1, 1, 1]}, "multiple of 4"),
        ({"prior.unet.num_head_channels": 24}, "cannot be split into heads"),
        ({"prior.unet.model_channels": 20}, "norm groups"),
        ({"prior.unet.in_channels": 1, "prior.unet.out_channels": 1}, "in_channels must be 3"),
        ({"prior.prediction": "w"}, "prediction must be one of"),
        ({"prior.variance": "learned_range"}, "does not suit"),
        ({"prior": "faces65"}, "no preset is called"),
        ({"prior.preset": "faces65"}, "no preset is called"),
        ({"prior.preset": [1]}, r"no preset is called \[1\]"),
        ({"prior": 3}, "^prior must be a group of fields"),
        ({"prior.unet": 3}, "^prior.unet must be a group of fields"),
        ({"prior.unet.dropout": "a"}, "no UNet configuration"),
        ({"prior.rescale_timesteps": "no"}, "rescale_timesteps must be true or false"),
        ({"prior.num_steps": True}, "positive whole number"),
        ({"prior.num_steps": 19, "report.times": [0], "report.sample_steps": 1}, "at least 20"),
        ({"prior.unit": {}}, "did you mean 'unet'"),
        ({"optimizer.batchsize": 3}, "did you mean 'batch_size'"),
        ({"optimizer.batch_size": 0}, "above 0"),
        ({"optimizer.batch_size": 8.5}, "a whole number"),
        ({"optimizer.batch_size": True}, "a whole number"),
        ({"optimizer.batch_size": 8, "optimizer.accumulate": 3}, "does not divide"),
        ({"optimizer.learning_rate": float("nan")}, "a number"),
        ({"optimizer.decay": "linear"}, "one of cosine, constant"),
        ({"optimizer.warmup_steps": 8, "steps": 8}, "below steps"),
        ({"optimizer.b2": 1.0}, r"\[0, 1\)"),
        ({"optimizer": 3}, "^optimizer must be a group of fields"),
        ({"loss.weighting": "snr"}, "simple, min_snr"),
        ({"loss.levels": "normal"}, "uniform, log_normal"),
        ({"loss.level_std": 0.0}, "level_std must be above 0"),
        (
            {"loss.levels": "log_normal", "prior.variance": "learned_range", "prior.unet.out_channels": 6},
            "take uniform",
        ),
        ({"loss.levels": "log_normal", "loss.teachers": [{"path": "a", "times": [0, 5]}]}, "need loss.levels=uniform"),
        ({"loss.min_snr_floor": -0.1}, "not be negative"),
        ({"loss.teacher_share": 1.5}, r"\[0, 1\]"),
        ({"loss.teachers": [{"path": "a"}] * 3, "optimizer.batch_size": 4}, "do not divide"),
        ({"loss.teachers": "a"}, "must be a list"),
        ({"loss.teachers": [{"times": [0, 5]}]}, r"loss.teachers\[0\] needs a path"),
        ({"loss.teachers": [{"path": "a", "times": [5, 5]}]}, r"\[first, last\)"),
        ({"loss.teachers": [{"path": "a", "times": [0, 101]}]}, "within 0 … 100"),
        (
            {"loss.teachers": [{"path": "a"}], "prior.variance": "learned_range", "prior.unet.out_channels": 6},
            "cannot teach a learned variance",
        ),
        ({"dtype": "float16"}, "float32, bfloat16"),
        ({"ema": []}, "one or more"),
        ({"ema": [0.9, 1.0]}, r"ema\[1\]"),
        ({"ema": 0.9}, "must be a list"),
        ({"report.times": [100]}, "0 … 99"),
        ({"report.sample_steps": 101}, "at most 100"),
        ({"steps": -1}, "steps must be above 0"),
        ({"data.sources": [{"path": "a", "weight": 0.0}]}, "weight must be above 0"),
        ({"data.sources": [{"weight": 1.0}]}, "needs a path"),
        ({"seed": -1}, "not be negative"),
        ({"seed": 2**32}, "seed must be at most"),
        ({"steps": 10**30}, "steps must be at most"),
    ],
)
def test_impossible_configurations_are_refused(tiny, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(**{name.replace(".", "__"): value for name, value in changes.items()})


@pytest.mark.parametrize(("name", "least"), FEWEST_STEPS.items())
def test_fewest_steps_are_those_of_the_schedules(name, least):
    schedule = getattr(schedules, name)
    assert schedule(least).num_steps == least
    with pytest.raises(ValueError, match="every beta"):
        schedule(least - 1)


def test_files_that_are_no_configuration(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(ValueError, match="no valid JSON"):
        load_config(str(tmp_path / "a.json"))
    (tmp_path / "c.json").write_text("{}")
    for name, changes in [("b.json", {}), ("b.json", {"data.sources": []}), ("c.json", {})]:
        with pytest.raises(ValueError, match='needs "prior"'):
            load_config(str(tmp_path / name), changes)
    (tmp_path / "d.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"d\.json is no valid JSON"):
        load_config(str(tmp_path / "d.json"))
    with pytest.raises(ValueError, match="faces64_minutes"):
        load_config("faces46_minutes")


def test_options_become_fields(tmp_path, pictures):
    config = config_from(
        _arguments(
            *("--config", "faces64_minutes", "--out", tmp_path, "--data", pictures, "--data", f"{pictures}=2.5"),
            *("--steps", 700, "--batch-size", 4, "--seed", 3),
            *("--set", "optimizer.learning_rate=1e-4", "--set", "loss.weighting=simple", "--set", "ema=[0.9]"),
        )
    )
    assert [(s.path, s.weight) for s in config.data.sources] == [(str(pictures), 1.0), (str(pictures), 2.5)]
    assert (config.steps, config.optimizer.batch_size, config.seed) == (700, 4, 3)
    assert (config.optimizer.learning_rate, config.loss.weighting, config.ema) == (1e-4, "simple", (0.9,))


@pytest.mark.parametrize("base", [(), ("--config", "finetune")])
def test_starting_from_weights_takes_over_what_they_were_trained_for(tmp_path, base):
    words = ("--out", tmp_path / "out", *base, "--init", "faces64", "--steps", 700)
    config = config_from(_arguments(*words))
    assert config.prior == load_checkpoint("faces64").config
    assert (config.init, config.steps, config.prior.prediction) == ("faces64", 700, "edm")
    other = config_from(_arguments(*words, "--set", "prior.prediction=v"))
    assert other.prior == dataclasses.replace(config.prior, prediction="v")


def test_options_that_cannot_be(tmp_path):
    out = tmp_path / "out"
    for words, sentence in [
        ((), "say what to train"),
        (("--config", "finetune", "--set", "steps"), "FIELD=VALUE"),
        (("--config", "finetune", "--data", "a=b"), "number as weight"),
        (("--config", "finetune", "--set", "optimizer.lerning_rate=1"), "did you mean 'learning_rate'"),
        (("--config", "finetune"), "nothing to train on"),
        (("--config", "finetune", "--data", "nowhere"), "no folder or zip"),
        (("--config", "finetune", "--data", tmp_path), "no image in"),
        (("--init", "nowhere"), "no prior"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            run(_arguments("--out", out, "--no-progress", *words))
        assert not out.exists()


def test_show_config(tmp_path, capsys):
    assert run(_arguments("--config", "finetune", "--out", tmp_path / "no", "--show-config")) == 0
    assert TrainConfig.from_dict(json.loads(capsys.readouterr().out)) == load_config("finetune")


def test_a_network_told_sigma_is_described_by_a_few_fields():
    form = {"form": "edm", "label": "edm"}
    prior = {"network": "song", "preconditioning": form, "schedule": "karras", "variance": "fixed_small"}
    config = load_config("faces64_minutes", {"prior": prior, "loss.levels": "log_normal"})
    assert config.prior.network == "song"
    assert config.prior.preconditioning.form == "edm"
    assert TrainConfig.from_json(config.to_json()) == config
    assert jax.tree.leaves(jax.eval_shape(lambda: init_state(config)).params)
