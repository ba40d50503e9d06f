"""Runs of deepinv's DDRM, DiffPIR and DPS, replayed step by step with its draws.

``benchmarks/parity_deepinv.py`` says which of its departures are absorbed, and how. Not compared, since nothing of ours is the
same map: DDRM where 0 < s ≤ σ (deepinv takes such directions for missing, the paper and we weigh y by them; the blur here
has none), DiffPIR's last network call (deepinv's has no effect), and DPS with the solvers "euler" and "ancestral".
"""

import jax.numpy as jnp
import pytest

from benchmarks import parity_deepinv as parity


@pytest.mark.parametrize("name", ["inpainting", "blur", "downsampling"])
def test_operators_are_the_same(name):
    clean = parity.operator(name)(jnp.asarray(parity.shared()["image"]))
    assert parity.relative(clean, parity.shared()[f"{name}_clean"]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name"), parity.RUNS)
def test_every_iterate_and_the_last_image_are_deepinvs(method, name):
    worst, last = parity.differences(parity.recorded(method, name))
    assert worst < parity.LIMIT
    assert last < parity.LIMIT


def changed(method, name, **changes):
    """The last image's difference with something else than what absorbs a departure."""
    run = parity.recorded(method, name)
    fields = {key: value(getattr(run, key)) for key, value in changes.items()}
    return parity.differences(run._replace(**fields))[1]


@pytest.mark.slow
def test_the_comparison_breaks_where_a_departure_is_not_absorbed():
    assert changed("ddrm", "blur", noise=lambda z: z * 2**0.5) > 1e-2
    assert changed("diffpir", "blur", sampler=lambda found: found.replace(lam=found.lam / 2)) > 1e-2
    assert changed("dps", "inpainting", sampler=lambda found: found.replace(zeta=found.zeta * 1.01)) > 1e-3
    assert changed("dps", "inpainting", denoiser=lambda found: found.replace(low=jnp.float32(-1))) > 1e-3


@pytest.mark.slow
def test_an_option_off_by_a_percent_is_seen():
    assert changed("ddrm", "inpainting", sampler=lambda found: found.replace(eta=found.eta * 1.01)) > 1e-3
    assert changed("ddrm", "blur", sampler=lambda found: found.replace(eta_b=found.eta_b * 1.01)) > 1e-3
    assert changed("diffpir", "inpainting", sampler=lambda found: found.replace(zeta=found.zeta * 1.01)) > 1e-3
