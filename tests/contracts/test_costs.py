"""Counts that no other job disturbs: nothing is computed twice or for nothing, and no change makes it so unnoticed."""

import functools

import pytest

from benchmarks import costs
from jaxdiff.models import PRESETS
from jaxdiff.models.config import layout
from jaxdiff.samplers import METHODS
from tests.support.tiers import fast_only

RISE = 1.02
SLACK = {"temporary": 2**18}
"""Bytes: where XLA puts small buffers differs a little between runs."""
CHECKED = [("tiny", label) for label in costs.programs(costs.NETWORKS["tiny"])] + [
    ("faces64", "forward"),
    ("faces64", "DPS step"),
]


@functools.cache
def programs(name):
    return costs.programs((costs.NETWORKS | costs.PRODUCTS_ONLY)[name])


@functools.cache
def counts(name, label):
    return costs.counts(programs(name)[label])


@functools.cache
def products(name, label):
    return costs.products(programs(name)[label])


def by_hand(config):
    """2 × products of a forward pass, from the published layout alone."""
    side, total, emb = config.image_size, 0, 4 * config.model_channels
    total += 2 * (config.model_channels * emb + emb * emb)

    def conv(side, before, after, taps=9):
        return 2 * side * side * taps * before * after

    blocks = layout(config)
    for layer in [layer for block in (*blocks.inputs, blocks.middle, *blocks.outputs) for layer in block]:
        before, after = layer.channels_in, layer.channels_out
        if layer.kind == "conv":
            total += conv(side, before, after)
        elif layer.kind == "attention":
            pixels = side * side
            total += 2 * pixels * before * 4 * before + 2 * 2 * pixels * pixels * before
        elif layer.kind == "down":
            side //= 2
            total += conv(side, before, after)
        elif layer.kind == "up":
            side *= 2
            total += conv(side, before, after, taps=4)  # of the upsampled image: 16 products where there were 36
        else:
            side = {"res_down": side // 2, "res_up": 2 * side}.get(layer.kind, side)
            total += conv(side, before, after, taps=4 if layer.kind == "res_up" else 9) + conv(side, after, after)
            total += 2 * emb * (2 * after if config.use_scale_shift_norm else after)
            if before != after:
                total += conv(side, before, after, taps=1)
    last = blocks.outputs[-1][-1].channels_out
    return total + conv(side, last, config.out_channels)


@pytest.mark.parametrize("name", fast_only(["tiny"], ["tiny", "faces64", "ffhq_256"]))
def test_the_forward_pass_has_the_products_of_the_layout(name):
    config = (costs.NETWORKS | costs.PRODUCTS_ONLY)[name]
    assert sum(products(name, "forward").values()) == by_hand(config)


def test_ffhq_is_smaller_than_the_plain_network():
    """The plain 3×3 convolutions of upsampled images would make it 388 GFLOP."""
    assert by_hand(PRESETS["ffhq_256"].unet) < 388e9


@pytest.mark.parametrize("name", fast_only(["tiny"], ["tiny", "ffhq_256"]))
@pytest.mark.slow
def test_a_step_computes_what_its_update_uses(name):
    forward = sum(products(name, "forward").values())
    for label in ("unconditional step", "Score ALD step")[: 2 if name == "tiny" else 1]:
        assert sum(products(name, label).values()) == forward, f"{label}: one forward pass, no gradient of the network"
    gradient = products(name, "forward + input gradient")
    assert products(name, "DPS step") == gradient, "the gradient shares its forward pass"
    assert gradient["conv_stride_1"] <= 2.01 * products(name, "forward")["conv_stride_1"]
    assert "conv_general_dilated" not in gradient, "no gradient of a kernel"


@pytest.mark.parametrize("method", fast_only(["dps", "repaint"], sorted(METHODS)))
def test_no_method_calls_the_network_more_often_than_its_definition(method):
    """A pass back costs what a pass forward does, but for the first convolution's input being 3 channels wide."""
    forward = products("tiny", "forward")["conv_stride_1"]
    back = products("tiny", "forward + input gradient")["conv_stride_1"] - forward
    sampler = METHODS[method]()
    forwards, backs, _ = sampler.calls
    found = costs.products(costs.step_of(costs.NETWORKS["tiny"], METHODS[method].make))
    wanted = forwards * forward + backs * back
    # Blur kernels and the like are convolutions too, but not of this primitive.
    assert found["conv_stride_1"] == wanted, (
        f"{found['conv_stride_1'] / forward:.2f} passes, {wanted / forward:.2f} needed"
    )


@pytest.mark.parametrize("name", fast_only(["tiny"], ["tiny", "faces64"]))
@pytest.mark.slow
def test_compiled_programs_hold_no_more_than_their_products(name):
    forward = counts(name, "forward")["flops"]
    traced = sum(products(name, "forward").values())
    # XLA does not count the products with the zeros of the padding, but the norms and activations.
    assert 0.8 * traced < forward < 1.15 * traced
    step = counts(name, "DPS step")
    assert step["flops"] <= 2.1 * forward, "a DPS step is a forward pass and an input gradient"
    assert step["flops"] <= 1.15 * sum(products(name, "forward + input gradient").values())


@pytest.mark.parametrize(("name", "label"), fast_only([("tiny", "DPS step")], CHECKED))
def test_counts_do_not_rise(name, label):
    known = costs.stored().get(costs.key_of())
    if known is None:
        pytest.skip(f"no counts are stored for {costs.key_of()}; python -m benchmarks.costs --update stores them.")
    found = counts(name, label)
    risen = {
        k: (known[name][label][k], v) for k, v in found.items() if v > RISE * known[name][label][k] + SLACK.get(k, 0)
    }
    text = ", ".join(f"{k} {before:,} → {after:,}" for k, (before, after) in risen.items())
    assert not risen, (
        f"{name}, {label} costs more than before: {text}. If that must be, run `python -m benchmarks.costs --update` and "
        "write the reason into the commit."
    )


def test_the_stored_counts_are_whole():
    for table in costs.stored().values():
        assert set(table) == set(costs.NETWORKS)
        for rows in table.values():
            assert set(rows) == set(costs.programs(costs.NETWORKS["tiny"]))
            assert all(set(row) == set(costs.COUNTS) for row in rows.values())
