import pytest
import torch

from selfseg.losses.reconstruction import reconstruction


def test_it_is_the_mean_over_the_values_of_valid_pixels():
    torch.manual_seed(0)
    rebuilt, images = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    valid = torch.rand(2, 4, 5) > 0.3
    errors = [
        float(rebuilt[b, c, y, x] - images[b, c, y, x]) ** 2 for b, y, x in valid.nonzero().tolist() for c in range(3)
    ]
    assert float(reconstruction(rebuilt, images, valid)) == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert float(reconstruction(rebuilt, images)) == pytest.approx(float(((rebuilt - images) ** 2).mean()), rel=1e-6)


def test_what_lies_outside_has_neither_value_nor_gradient():
    rebuilt, images = torch.zeros(1, 1, 2, 2, requires_grad=True), torch.full((1, 1, 2, 2), torch.nan)
    images[..., 0, 0] = 3.0
    valid = torch.tensor([[[True, False], [False, False]]])
    loss = reconstruction(rebuilt, images, valid)
    loss.backward()
    assert float(loss.detach()) == 9
    assert float(rebuilt.grad[0, 0, 0, 0]) == -6
    assert reconstruction(rebuilt, images, torch.zeros_like(valid)).item() == 0
