import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from selfseg.core.errors import UsageError
from selfseg.sample.augment import (
    Augmentation,
    add_noise,
    labelled_parts,
    random_views,
    vary_grey,
    vary_look,
    view_coordinates,
)
from selfseg.sample.stream import Batch

ALL = Augmentation(elastic=3.0, rotation=180.0, mirror=True, grey=0.2)


def ramp(shape):
    """An image whose channels are its own coordinates, and labels that say in which half of the first axis a pixel lies."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
    return grid, (grid[0] >= shape[0] / 2).long()


@pytest.mark.parametrize("shape", [(40, 50), (8, 40, 50)])
def test_image_and_labels_go_through_the_same_coordinates(shape):
    """The image says where each pixel of the view came from; inside the image its label must be that of the place."""
    image, annotations = ramp(shape)
    side = (4, 16, 16)[-len(shape) :]
    augmentation = Augmentation(elastic=1.0, rotation=30.0, mirror=True)
    views = random_views([(image, annotations)], [annotations[None].float()], side, 0, augmentation, seed=3)
    origin = views.images[0, 0]
    clear = (origin - shape[0] / 2 + 0.5).abs() > 1.0  # not at the border of the halves
    assert views.annotations.shape == (1, *side) and bool(clear.any())
    assert torch.equal(views.annotations[0][clear], (origin >= shape[0] / 2).long()[clear])
    torch.testing.assert_close(views.maps[0, 0][clear], views.annotations[0][clear].float())


def test_views_are_a_function_of_the_seed():
    image, annotations = ramp((30, 30))
    one, same, other = (random_views([(image, annotations)], None, (16, 16), 4, ALL, seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images) and torch.equal(one.annotations, same.annotations) and one.maps is None
    assert not torch.equal(one.images, other.images)


def test_the_margin_lies_around_the_labels():
    image, annotations = ramp((60, 60))
    views = random_views([(image, annotations)], None, (16, 16), 5, Augmentation(), seed=0)
    assert views.images.shape == (1, 2, 26, 26)
    assert torch.equal(views.annotations[0], (views.images[0, 0, 5:-5, 5:-5] >= 30).long())


@pytest.mark.parametrize("focus", [(0, 0), (20, 49), (39, 25)])
def test_a_plain_view_lies_within_the_image_and_shows_what_it_should(focus):
    for seed in range(20):
        at = view_coordinates((40, 50), focus, (16, 16), Augmentation(), seed)
        low, high = at.flatten(1).min(1).values, at.flatten(1).max(1).values
        assert low.tolist() == [float(int(n)) for n in low] and bool((low >= 0).all())
        assert high[0] < 40 and high[1] < 50
        assert all(low[a] <= focus[a] <= high[a] for a in (0, 1))


def test_a_view_larger_than_the_image_has_it_in_its_middle():
    at = view_coordinates((10, 10), (3, 3), (16, 16), Augmentation(), seed=0)
    assert at[0, :, 0].tolist() == [float(n) for n in range(-3, 13)]


def test_turning_and_mirroring_keep_distances():
    at = view_coordinates((64, 64), (32, 32), (16, 16), Augmentation(rotation=180.0, mirror=True), seed=5)
    for axis in (1, 2):
        steps = at.diff(dim=axis).square().sum(0).sqrt()
        torch.testing.assert_close(steps, torch.ones_like(steps))


def test_angles_and_mirrors_are_all_drawn():
    angles, handed = [], set()
    for seed in range(40):
        at = view_coordinates((64, 64), (32, 32), (8, 8), Augmentation(rotation=90.0, mirror=True), seed)
        down, right = at[:, 1, 0] - at[:, 0, 0], at[:, 0, 1] - at[:, 0, 0]
        angles.append(float(torch.atan2(down[0], down[1])))
        handed.add(round(float(down[0] * right[1] - down[1] * right[0])))
    assert torch.tensor(angles).std() > 0.5 and handed == {1, -1}


def test_grey_values_change_linearly():
    image = torch.rand(2, 12, 12)
    changed = vary_grey(image, 0.5, seed=3)
    slope = (changed - changed.mean()) / (image - image.mean())
    torch.testing.assert_close(slope, slope.flatten()[0].expand_as(slope), rtol=1e-3, atol=1e-3)
    assert float(slope.flatten()[0]) > 0 and abs(float(slope.flatten()[0]) - 1) > 0.01
    torch.testing.assert_close(vary_grey(image, 0.0, seed=3), image)


def test_views_show_labelled_pixels_where_labels_are_rare():
    annotations = torch.full((200, 200), -1)
    annotations[150:153, 20:23] = 1
    views = random_views([(torch.rand(1, 200, 200), annotations)] * 10, None, (32, 32), 0, Augmentation(), seed=0)
    assert bool((views.annotations >= 0).flatten(1).any(1).all())


def test_parts_leave_the_padding_and_invalid_pixels_out():
    valid = torch.ones(2, 10, 12, dtype=torch.bool)
    valid[0, 7:], valid[1, 2, 3] = False, False
    batch = Batch(torch.rand(2, 1, 10, 12), valid, torch.zeros(2, 10, 12, dtype=torch.int64), (0, 1))
    (small, small_hints), (whole, annotations) = labelled_parts(batch)
    assert small.shape == (1, 7, 12) and small_hints.shape == (7, 12) and whole.shape == (1, 10, 12)
    assert annotations[2, 3] == -1 and int((annotations < 0).sum()) == 1
    with pytest.raises(UsageError, match="labels"):
        labelled_parts(Batch(torch.rand(1, 1, 4, 4)))


def test_noise_has_every_strength_up_to_the_largest_one():
    image = 3.0 * torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0)) + 10
    added = [(add_noise(image, 0.5, seed) - image).std() / image.std() for seed in range(40)]
    assert max(added) <= 0.52 and min(added) < 0.1
    assert float(torch.stack(added).mean()) == pytest.approx(0.25, abs=0.06)
    torch.testing.assert_close(add_noise(image, 0.5, 7), add_noise(image, 0.5, 7), rtol=0, atol=0)
    assert add_noise(image, 0.0, 7) is image


def test_noise_of_the_augmentation_reaches_the_views():
    part = (torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(32, 32, dtype=torch.int64))
    plain, noisy = (random_views([part], None, (32, 32), 0, Augmentation(noise=n), seed=5).images for n in (0.0, 1.0))
    torch.testing.assert_close(plain[0], part[0])
    assert float((noisy - plain).std()) > 0.01


def test_a_gamma_keeps_the_ends_and_the_order():
    image = torch.rand(2, 20, 30) * 7 - 3
    seen = vary_look(image, Augmentation(gamma=0.5), seed=1)
    assert not torch.allclose(seen, image)
    torch.testing.assert_close(torch.stack(seen.aminmax()), torch.stack(image.aminmax()))
    assert torch.equal(seen.flatten().argsort(), image.flatten().argsort())


@pytest.mark.parametrize("shape", [(1, 25, 31), (2, 9, 12, 14)])
def test_blur_is_a_gaussian_with_its_border_repeated(shape):
    image = torch.rand(shape)
    for seed in range(40):
        sigma = 2.0 * float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
        seen = vary_look(image, Augmentation(blur=2.0), seed)
        if sigma <= 0.2:
            assert torch.equal(seen, image)
            continue
        radius = math.ceil(3 * sigma)
        want = np.stack([gaussian_filter(one, sigma, mode="nearest", radius=radius) for one in image.numpy()])
        np.testing.assert_allclose(seen.numpy(), want, atol=1e-5)


def test_uneven_light_is_smooth_and_the_same_in_all_channels():
    image = torch.rand(2, 64, 64) + 1
    image[:, 0, 0] = 1  # the least value of both: light is a factor above it
    seen = vary_look(image, Augmentation(light=0.5), seed=4)
    ratio = ((seen - 1) / (image - 1).clamp(min=1e-6))[:, 1:, 1:]
    torch.testing.assert_close(ratio[0], ratio[1], rtol=1e-3, atol=1e-3)
    assert float(ratio[0].max() / ratio[0].min()) > 1.1
    assert float(ratio[0].log().diff(dim=1).abs().max()) < 0.1


def test_scale_draws_pixels_apart_or_together():
    apart = []
    for seed in range(200):
        at = view_coordinates((99, 99), (50, 50), (16, 16), Augmentation(scale=1.0), seed)
        apart.append(float(torch.log2(at[0, 1, 0] - at[0, 0, 0])))
        torch.testing.assert_close(at[1, 0, 1] - at[1, 0, 0], at[0, 1, 0] - at[0, 0, 0])
    assert -1 <= min(apart) < -0.8 and 0.8 < max(apart) <= 1 and abs(np.mean(apart)) < 0.15
