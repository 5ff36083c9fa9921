import pytest
import torch
from torch import nn

from selfseg.nets.norms import calibrate_batch_norms


def test_statistics_are_the_means_over_one_pass_without_dropout():
    net = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3, momentum=0.3))
    net(torch.full((1, 3, 4, 4), 100.0) * torch.rand(1, 3, 4, 4))  # something to forget
    parts = [torch.rand(2, 3, 5, 5), torch.rand(2, 3, 6, 7) * 3]
    calibrate_batch_norms(net, lambda: (net(part) for part in parts))
    mean = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    variance = torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0)
    torch.testing.assert_close(net[1].running_mean, mean)
    torch.testing.assert_close(net[1].running_var, variance)
    assert net[1].momentum == 0.3 and not net[1].training


def test_a_net_without_batch_norms_is_not_run():
    def never():
        raise AssertionError
        yield

    calibrate_batch_norms(nn.Conv2d(1, 1, 1), never)


@pytest.mark.parametrize("n", [1, 4])
def test_prediction_on_the_only_image_is_as_in_training(n):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).train()
    image = torch.rand(n, 1, 20, 20)
    shown = net(image)
    calibrate_batch_norms(net, lambda: (net(image) for _ in range(1)))
    torch.testing.assert_close(net(image), shown, rtol=0.01, atol=0.02)
