import pytest
import torch

from selfseg.methods.deep_kmeans import Explained
from selfseg.nets.feature_space import SIZE, MovingCentres, PixelSample


def filled(balance):
    sample = PixelSample(1, 2, balance)
    pixels = torch.cat([torch.full((9000, 1), 0.2), torch.full((900, 1), 0.5), torch.full((100, 1), 0.9)])
    sample.add(pixels, pixels.expand(-1, 2), len(pixels))
    sample.weigh(seed=0)
    return sample


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_kinds_of_pixels_weigh_as_their_balance_says(balance):
    weights = filled(balance).weights(torch.tensor([[0.2], [0.5], [0.9]]))
    raw = torch.tensor([share**-balance for share in (0.9, 0.09, 0.01)])
    wanted = raw / sum(share * weight for share, weight in zip((0.9, 0.09, 0.01), raw, strict=True))
    torch.testing.assert_close(weights, wanted, rtol=1e-4, atol=1e-5)


def test_the_mean_weight_is_one():
    assert float(filled(0.7).weights().mean()) == pytest.approx(1, rel=1e-4)


def test_quotas_and_the_size_of_the_sample_are_kept():
    sample = PixelSample(1, 1, 0.0)
    for part in range(3):
        rows = torch.full((SIZE, 1), float(part))
        sample.add(rows, rows, SIZE // 2)
    assert int(sample.taken) == SIZE
    assert [int((sample.features_taken == part).sum()) for part in range(3)] == [SIZE // 2, SIZE // 2, 0]
    sample.clear()
    assert len(sample.pixels_taken) == 0


def test_a_cluster_without_pixels_in_a_pass_begins_anew_and_one_with_a_single_pixel_does_not():
    moving = MovingCentres(3, 1)
    moving.centres.copy_(torch.tensor([[0.0], [8.0], [99.0]]))
    rows, ones = torch.tensor([[0.0]] * 50 + [[1.0]] + [[8.0]]), torch.ones(52)
    moving.absorb(rows, ones, 20)
    moving.end_pass(rows)
    assert moving.centres[1:].flatten().tolist() == [8.0, 1.0]
    assert moving.figures()["smallest"] == 0
    moving.absorb(rows, ones, 20)
    moving.end_pass(rows)
    assert moving.centres[1:].flatten().tolist() == [8.0, 1.0] and moving.figures()["smallest"] > 0


def test_the_error_is_a_share_of_the_variance_and_is_judged_over_enough_batches():
    explained = Explained()
    draw = torch.Generator().manual_seed(0)
    for _ in range(9):
        explained.look_at(0.1 * torch.randn(1, 2, 50, 50, generator=draw), None)
        explained.judge(torch.tensor(0.03), ends_pass=True)
    assert float(explained.share(torch.tensor(0.01))) == pytest.approx(1, rel=0.02)
    assert not explained.enough(0.5)
    explained.judge(torch.tensor(0.13), ends_pass=False)
    assert not explained.enough(0.5)
    explained.judge(torch.tensor(0.03), ends_pass=True)
    assert float(explained.unexplained) == pytest.approx((10 * 0.03 + 0.13) / 11)
    assert explained.enough(0.05) and not explained.enough(0.03)
