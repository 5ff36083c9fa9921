import math

import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.regions.oriented_gradient import enlarge, fit_parabolas, half_disc_gradient, quantise


def halves_by_loops(words, n_words, radius, blur, y, x, k):
    """Chi-squared of the two halves of one disc, cut at angle k pi / 8: the definition, pixel by pixel."""
    g, h = np.zeros(n_words), np.zeros(n_words)
    height, width = words.shape
    for dy in range(-int(radius), int(radius) + 1):
        for dx in range(-int(radius), int(radius) + 1):
            if dy * dy + dx * dx > radius * radius or (dy, dx) == (0, 0):
                continue
            # Mirrored at the border, the border's own pixel twice.
            yy, xx = y + dy, x + dx
            yy = -yy - 1 if yy < 0 else 2 * height - yy - 1 if yy >= height else yy
            xx = -xx - 1 if xx < 0 else 2 * width - xx - 1 if xx >= width else xx
            word = words[yy, xx]
            if not 0 <= word < n_words:
                continue
            beyond = (math.degrees(math.atan2(dy, dx)) - k * 22.5 + 1e-6) % 360 < 180
            (g if beyond else h)[word] += 1
    soft_g, soft_h = np.zeros(n_words), np.zeros(n_words)
    reach = math.ceil(3 * blur)
    weight = {t: math.exp(-t * t / (2 * blur * blur)) if blur else 1.0 for t in range(-reach, reach + 1)}
    for i in range(n_words):
        for j in range(n_words):
            if j - i in weight:
                soft_g[i] += weight[j - i] * g[j]
                soft_h[i] += weight[j - i] * h[j]
    if soft_g.sum() == 0 or soft_h.sum() == 0:
        return 0.0
    soft_g, soft_h = soft_g / soft_g.sum(), soft_h / soft_h.sum()
    return 0.5 * sum((a - b) ** 2 / (a + b) for a, b in zip(soft_g, soft_h, strict=True) if a + b > 0)


@pytest.mark.parametrize(("radius", "blur", "stride"), [(3, 0.0, 1), (3, 1.25, 2), (4.5, 2.5, 3)])
def test_the_gradient_is_chi_squared_of_half_discs(radius, blur, stride):
    words = np.random.default_rng(0).integers(0, 6, (11, 13))
    words[2, 3] = 200  # a pixel that counts nowhere
    gradient = half_disc_gradient(words, 6, radius, blur, stride)
    assert gradient.shape == (8, -(-11 // stride), -(-13 // stride))
    for row in range(gradient.shape[1]):
        for column in range(gradient.shape[2]):
            for k in range(8):
                expected = halves_by_loops(words, 6, radius, blur, row * stride, column * stride, k)
                assert gradient[k, row, column] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("k", range(8))
def test_a_step_is_strongest_at_its_own_angle_and_place(k):
    y, x = np.mgrid[-30:31, -30:31]
    angle = k * math.pi / 8
    side = y * math.cos(angle) - x * math.sin(angle)
    gradient = fit_parabolas(half_disc_gradient((side > 0).astype(int), 2, 5), 5)
    at_centre = gradient[:, 30, 30]
    assert at_centre.argmax() == k
    assert at_centre[k] > 0.7 and at_centre[(k + 4) % 8] < 0.1
    far = np.abs(side) > 8
    far &= np.hypot(y, x) < 20
    assert gradient[:, far].max() < 0.05


def test_halves_with_nothing_in_common_are_one_apart_and_equal_ones_zero():
    words = np.zeros((20, 20), int)
    assert half_disc_gradient(words, 3, 4).max() == 0
    words[10:] = 2
    assert half_disc_gradient(words, 3, 4)[0, 10, 10] > 0.7
    outside = np.full((20, 20), 255)
    assert half_disc_gradient(outside, 3, 4).max() == 0


def test_a_parabola_across_the_line_is_kept_and_noise_is_not():
    y = np.mgrid[:40, :40][0].astype(float)
    planes = np.stack([30 - 0.1 * (y - 20) ** 2] * 8)
    inner = fit_parabolas(planes, 8)[0, 10:30, 10:30]
    np.testing.assert_allclose(inner, planes[0, 10:30, 10:30], rtol=1e-5)
    noise = 5 + np.random.default_rng(0).normal(0, 1, (8, 40, 40))
    assert fit_parabolas(noise, 8).std() < 0.5


def test_enlarging_gives_back_what_is_linear():
    y, x = np.mgrid[:10, :13].astype(np.float32)
    plane = (2 * y + 3 * x)[None]
    np.testing.assert_allclose(enlarge(plane[:, ::3, ::3], 3, (10, 13)), plane, rtol=1e-5)
    middles = plane[:, :, :12].reshape(1, 5, 2, 6, 2).mean((2, 4))
    np.testing.assert_allclose(enlarge(middles, 2, (10, 12), 0.5)[:, 1:-1, 1:-1], plane[:, 1:-1, 1:11], rtol=1e-5)
    assert enlarge(np.ones((8, 1, 1)), 4, (3, 2)).tolist() == np.ones((8, 3, 2)).tolist()


def test_bins_are_even_and_what_lies_outside_is_clipped():
    assert quantise(np.array([-1, 0, 0.24, 0.26, 0.99, 1, 7, np.nan]), 4).tolist() == [0, 0, 0, 1, 3, 3, 3, 0]


def test_wrong_input_is_named():
    words = np.zeros((5, 5), int)
    for bad in ((words + 0.5, 3, 2), (words, 3, 0), (words, 300, 2), (words[0], 3, 2)):
        with pytest.raises(UsageError, match="expected"):
            half_disc_gradient(*bad)
