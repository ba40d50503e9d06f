"""Priors side by side: the gain of one on another is judged image by image."""

import numpy as np
import pytest

from benchmarks.prior_quality import paired


def test_gain_is_paired():
    first = {"PSNR [dB]": np.array([10.0, 20.0, 30.0, 40.0]), "LPIPS": np.array([0.1, 0.2, 0.3, 0.4])}
    other = {"PSNR [dB]": first["PSNR [dB]"] + np.array([1.0, 2.0, 1.0, 2.0]), "LPIPS": first["LPIPS"]}
    assert dict(paired(first, first)) == {"PSNR [dB]": 25.0, "LPIPS": pytest.approx(0.25)}
    found = dict(paired(other, first))
    assert found["PSNR [dB]: gain"] == 1.5
    # Differences of ±0.5 about their mean: s² = 4 · 0.25 / 3, of four.
    assert found["PSNR [dB]: standard error of the gain"] == pytest.approx((1 / 3) ** 0.5 / 2)
    assert "LPIPS: gain" not in found
