import torch

from selfseg.sample.windows import random_windows


def test_windows_are_parts_of_their_images_and_follow_the_seed():
    images = torch.arange(2 * 30 * 40).reshape(2, 1, 30, 40).float()
    torch.manual_seed(1)
    windows, valid = random_windows(images, None, 8)
    assert windows.shape == (2, 1, 8, 8) and valid is None
    for b in range(2):
        top, left = divmod(int(windows[b, 0, 0, 0]) - 1200 * b, 40)
        assert torch.equal(windows[b], images[b, :, top : top + 8, left : left + 8])
    torch.manual_seed(1)
    assert torch.equal(random_windows(images, None, 8)[0], windows)
    assert not torch.equal(random_windows(images, None, 8)[0], windows)


def test_every_place_can_come_up():
    images = torch.arange(12.0).reshape(1, 1, 3, 4)
    torch.manual_seed(0)
    corners = {int(random_windows(images, None, 2)[0][0, 0, 0, 0]) for _ in range(200)}
    assert corners == {0, 1, 2, 4, 5, 6}


def test_padding_is_not_looked_at_and_masks_are_kept():
    images, valid = torch.zeros(1, 1, 20, 20), torch.zeros(1, 20, 20, dtype=torch.bool)
    images[..., :10, :12] = 1
    valid[..., :10, :12] = True
    for seed in range(20):
        torch.manual_seed(seed)
        windows, counted = random_windows(images, valid, 6)
        assert windows.min() == 1 and counted is None
    valid[0, 4, 4] = False
    torch.manual_seed(0)
    assert random_windows(images, valid, 10)[1].sum() in (99, 100)


def test_small_images_and_volumes_are_continued_by_their_mirror_image():
    volume = torch.arange(2 * 3 * 4).reshape(1, 1, 2, 3, 4).float()
    windows, _ = random_windows(volume, None, 4)
    assert windows.shape == (1, 1, 4, 4, 4)
    assert torch.equal(windows[0, 0, 2:], windows[0, 0, :2].flip(0))
