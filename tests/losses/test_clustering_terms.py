import numpy as np
import pytest
import torch

from reference import clustering_loops as loops
from selfseg.core.errors import UsageError
from selfseg.losses import clustering_terms, continuity, scribble, similarity


def case(dtype=torch.float64, shape=(2, 5, 4, 6), seed=0):
    """response [B K Y X] and valid [B Y X] with holes."""
    draw = np.random.default_rng(seed)
    response = torch.tensor(draw.normal(size=shape), dtype=dtype, requires_grad=True)
    valid = torch.tensor(draw.random((shape[0], *shape[2:])) > 0.3)
    return response, valid


def dense(gradient, shape):
    out = np.zeros(shape)
    for place, value in gradient.items():
        out[place] = value
    return out


@pytest.mark.parametrize("masked", [False, True])
def test_similarity_is_equation_2(masked):
    response, valid = case()
    target = response.detach().argmax(1)
    rows = response.detach().numpy().transpose(0, 2, 3, 1)
    counted = valid.numpy() if masked else np.ones(valid.shape, bool)
    value, gradient = loops.similarity(rows, target.numpy(), counted)
    loss = similarity(response, valid=valid if masked else None)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(response.grad.numpy().transpose(0, 2, 3, 1), dense(gradient, rows.shape), atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_continuity_is_equation_4(masked, axis):
    response, valid = case()
    rows = response.detach().numpy().transpose(0, 2, 3, 1)
    counted = valid.numpy() if masked else np.ones(valid.shape, bool)
    value, gradient = loops.continuity(rows, counted, axis)
    loss = continuity(response, valid if masked else None)[axis]
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(response.grad.numpy().transpose(0, 2, 3, 1), dense(gradient, rows.shape), atol=1e-12)


def test_continuity_in_3d_has_three_axes():
    response = torch.arange(2 * 3 * 4, dtype=torch.float64).reshape(1, 1, 2, 3, 4)
    assert [term.item() for term in continuity(response)] == [12.0, 4.0, 1.0]


def test_a_single_pixel_has_no_neighbours():
    response = torch.zeros(1, 3, 1, 1, requires_grad=True)
    terms = continuity(response)
    sum(terms).backward()
    assert [term.item() for term in terms] == [0.0, 0.0]
    assert response.grad.abs().sum() == 0


def test_nothing_valid_gives_zero_and_no_nan():
    response, valid = case()
    sim, con, _ = clustering_terms(response, torch.zeros_like(valid))
    (sim + sum(con)).backward()
    assert sim.item() == 0 and all(term.item() == 0 for term in con)
    assert torch.isfinite(response.grad).all()


def test_nan_where_invalid_changes_nothing():
    response, valid = case()
    spoiled = response.detach().where(valid.unsqueeze(1), torch.nan).requires_grad_()
    for one in (response, spoiled):
        sim, con, _ = clustering_terms(one, valid)
        (sim + con[0] + 2 * con[1]).backward()
    counted = valid.unsqueeze(1).expand_as(response)
    torch.testing.assert_close(spoiled.grad[counted], response.grad[counted])


def test_scribble_counts_hinted_pixels_only():
    response, valid = case()
    annotations = torch.full(valid.shape, -1)
    annotations[0, 1, 2], annotations[1, 3, 3] = 4, 0
    marked = annotations >= 0
    rows = response.detach().numpy().transpose(0, 2, 3, 1)
    value, gradient = loops.similarity(rows, annotations.numpy(), marked.numpy())
    loss = scribble(response, annotations)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(response.grad.numpy().transpose(0, 2, 3, 1), dense(gradient, rows.shape), atol=1e-12)


def test_scribble_without_hints_is_zero_with_a_gradient():
    response, valid = case()
    loss = scribble(response, torch.full(valid.shape, -1))
    loss.backward()
    assert loss.item() == 0 and response.grad.abs().sum() == 0


def test_labels_come_from_live_clusters_only():
    response, _ = case()
    live = torch.tensor([False, True, False, True, False])
    sim, _, labels = clustering_terms(response, live=live)
    assert set(labels.unique().tolist()) <= {1, 3}
    picked = response.detach()[:, [1, 3]].argmax(1) * 2 + 1
    assert torch.equal(labels, picked)
    torch.testing.assert_close(sim, similarity(response, picked))


@pytest.mark.parametrize(
    "call",
    [
        lambda r: similarity(r, valid=torch.ones(2, 4, 5, dtype=torch.bool)),
        lambda r: similarity(r, target=torch.zeros(2, 24, dtype=torch.int64)),
        lambda r: continuity(r, valid=torch.ones(2, 4, 5, dtype=torch.bool)),
        lambda r: scribble(r, torch.zeros(1, 4, 6, dtype=torch.int64)),
        lambda r: clustering_terms(r, live=torch.ones(4, dtype=torch.bool)),
        lambda r: clustering_terms(r, live=torch.zeros(5, dtype=torch.bool)),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(call):
    with pytest.raises(UsageError, match=r"expected .* got .*;") as caught:
        call(case()[0])
    assert "\n" not in str(caught.value)
