import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, log_loss

from selfseg.core.errors import UsageError
from selfseg.losses.supervised import (
    binary_cross_entropy,
    border_weight,
    class_weights,
    count_pairs,
    distance_error,
    mean_iou,
    object_distance,
    soft_dice,
    weighted_cross_entropy,
)


def drawn(k=3, seed=0):
    source = torch.Generator().manual_seed(seed)
    response = torch.randn(2, k, 5, 6, generator=source, dtype=torch.float64)
    labels = torch.randint(-1, k, (2, 5, 6), generator=source)
    return response, labels, torch.rand(2, 5, 6, generator=source, dtype=torch.float64)


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def loops(response, labels, weights, of_pixel):
    """The weighted mean over labelled pixels of what `of_pixel` says of probabilities and label."""
    total = loud = 0.0
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label < 0:
            continue
        p = softmax(response[b, :, y, x].tolist())
        total += float(weights[b, y, x]) * of_pixel(p, label)
        loud += float(weights[b, y, x])
    return total / loud


def test_cross_entropy_is_the_equation():
    response, labels, weights = drawn()
    wanted = loops(response, labels, weights, lambda p, label: -math.log(p[label]))
    assert float(weighted_cross_entropy(response, labels, weights)) == pytest.approx(wanted, rel=1e-9)


def test_cross_entropy_without_weights_is_scikit_learns_log_loss():
    response, labels, _ = drawn()
    rows, truth = response.softmax(1).movedim(1, -1)[labels >= 0].numpy(), labels[labels >= 0].numpy()
    wanted = log_loss(truth, rows, labels=[0, 1, 2])
    assert float(weighted_cross_entropy(response, labels)) == pytest.approx(wanted, rel=1e-9)


def test_binary_cross_entropy_is_the_equation():
    response, labels, weights = drawn()

    def of_pixel(p, label):
        return -sum(math.log(p[k] if k == label else 1 - p[k]) for k in range(len(p))) / len(p)

    wanted = loops(response, labels, weights, of_pixel)
    assert float(binary_cross_entropy(response, labels, weights)) == pytest.approx(wanted, rel=1e-9)


def test_with_two_classes_binary_is_cross_entropy_and_one_logit():
    response, labels, weights = drawn(k=2)
    two, one = binary_cross_entropy(response, labels, weights), weighted_cross_entropy(response, labels, weights)
    torch.testing.assert_close(two, one)
    logit, found = (response[:, 1] - response[:, 0])[labels >= 0], labels >= 0
    single = torch.nn.functional.binary_cross_entropy_with_logits(
        logit, labels[found].double(), weights[found], reduction="sum"
    )
    torch.testing.assert_close(two, single / weights[found].sum())


def test_dice_is_the_equation_and_of_hard_answers_the_f1_score():
    response, labels, _ = drawn()
    p, parts = response.softmax(1), []
    for c in range(3):
        both = found = wanted = 0.0
        for b, y, x in np.ndindex(*labels.shape):
            if int(labels[b, y, x]) >= 0:
                t = float(labels[b, y, x] == c)
                both += float(p[b, c, y, x]) * t
                found += float(p[b, c, y, x]) ** 2
                wanted += t
        parts.append((2 * both + 1) / (found + wanted + 1))
    assert float(soft_dice(p, labels)) == pytest.approx(1 - sum(parts) / 3, rel=1e-9)
    hard = torch.nn.functional.one_hot(p.argmax(1), 3).movedim(-1, 1).double()
    truth, answer = labels[labels >= 0].numpy(), p.argmax(1)[labels >= 0].numpy()
    wanted = f1_score(truth, answer, average="macro")
    assert float(soft_dice(hard, labels, smooth=0.0)) == pytest.approx(1 - wanted, rel=1e-9)


def test_dice_leaves_out_a_class_that_has_no_label():
    _, labels, _ = drawn()
    labels = labels.clamp(max=1)
    right = torch.nn.functional.one_hot(labels.clamp(min=0), 3).movedim(-1, 1).double()
    assert float(soft_dice(right, labels)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "term", [weighted_cross_entropy, binary_cross_entropy, lambda r, t: soft_dice(r.softmax(1), t)]
)
def test_terms_are_0_without_labels_and_blind_to_what_is_not_labelled(term):
    response, labels, _ = drawn()
    assert float(term(response, torch.full_like(labels, -1))) == 0.0
    other = response.clone()
    other[(labels < 0)[:, None].expand_as(other)] = float("nan")
    assert float(term(other, labels)) == pytest.approx(float(term(response, labels)), rel=1e-12)
    leaf = response.clone().requires_grad_()
    term(leaf, labels).backward()
    assert (
        bool(torch.isfinite(leaf.grad).all())
        and float(leaf.grad[(labels < 0)[:, None].expand_as(leaf)].abs().sum()) == 0
    )
    with pytest.raises(UsageError, match="labels"):
        term(response, labels[:, :2])


@pytest.mark.parametrize("term", [weighted_cross_entropy, binary_cross_entropy])
def test_certain_answers_and_a_single_class_stay_finite(term):
    response = torch.tensor([[200.0], [-200.0]]).reshape(1, 2, 1, 1).requires_grad_()
    for label in (0, 1):
        value = term(response, torch.full((1, 1, 1), label))
        value.backward()
        assert bool(torch.isfinite(value)) and bool(torch.isfinite(response.grad).all())
    assert float(term(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))) == 0.0


def test_class_weights_make_up_for_frequency():
    pixels = torch.tensor([80, 15, 5, 0])
    full, half = class_weights(pixels), class_weights(pixels, 0.5)
    shares = pixels[:3] * full[:3]
    torch.testing.assert_close(shares, shares[0].expand(3))  # every class weighs the same in all
    assert float((pixels[:3] * full[:3]).sum()) == pytest.approx(100.0)
    assert float(half[1] / half[0]) == pytest.approx(math.sqrt(80 / 15))
    assert float(full[3]) == 1.0
    assert class_weights(pixels, 0.0).tolist() == [1.0] * 4


def border_loop(objects, w0, sigma):
    """Equation 2 of the paper by the definition: distances to the nearest and second nearest object, pixel by pixel."""
    places = {int(n): np.argwhere(objects == n) for n in np.unique(objects[objects > 0])}
    weight = np.zeros(objects.shape)
    for place in np.argwhere(objects == 0):
        distances = sorted(np.sqrt(((cells - place) ** 2).sum(1)).min() for cells in places.values())
        if len(distances) > 1:
            weight[tuple(place)] = w0 * math.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weight


@pytest.mark.parametrize("shape", [(24, 30), (8, 12, 14)])
def test_border_weight_is_the_equation(shape):
    rng = np.random.default_rng(1)
    objects = ndimage.label(ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > 0.12)[0]
    assert objects.max() > 3
    np.testing.assert_allclose(
        border_weight(objects, 10.0, 2.0), border_loop(objects, 10.0, 2.0), atol=10 * math.exp(-8)
    )


def test_border_weight_is_highest_in_the_gap_and_none_for_one_object():
    objects = np.zeros((20, 40), int)
    objects[5:15, 5:18], objects[5:15, 20:33] = 3, 9
    weight = border_weight(objects)
    assert weight.max() == weight[10, 18] and weight[10, 18] == pytest.approx(10 * math.exp(-9 / 50))
    assert (weight[objects > 0] == 0).all()
    assert not border_weight((objects == 3).astype(int)).any()
    assert not border_weight(np.zeros((4, 4), int)).any()


def test_object_distance_is_the_definition():
    """Distance to the nearest pixel that is not of the object, inside the image, over the object's largest one."""
    objects = ndimage.label(ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(24, 30)), 1.5) > 0.05)[0]
    objects[objects == 2] = 40  # numbers need not be dense
    want = np.zeros(objects.shape)
    for n in np.unique(objects[objects > 0]):
        away = np.argwhere(objects != n)
        cells = np.argwhere(objects == n)
        distances = np.array([np.sqrt(((away - cell) ** 2).sum(1)).min() for cell in cells])
        want[tuple(cells.T)] = distances / distances.max()
    np.testing.assert_allclose(object_distance(objects), want, atol=1e-5)
    assert (object_distance(np.ones((4, 5), int)) == 1).all() and not object_distance(np.zeros((4, 5), int)).any()


def test_distance_error_is_the_equation_over_labelled_pixels_and_rims():
    response, labels, distances = drawn()
    labels[:, 2:] = -1
    terms = []
    for b, y, x in np.ndindex(*labels.shape):
        near = labels[b, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        if labels[b, y, x] < 0 and not (near > 0).any():
            continue
        p, t = 1 / (1 + math.exp(-float(response[b, 0, y, x]))), float(distances[b, y, x])
        terms.append(-t * math.log(p) - (1 - t) * math.log(1 - p))
    assert float(distance_error(response[:, 0], distances, labels)) == pytest.approx(np.mean(terms))


def test_pairs_and_iou_are_scikit_learns():
    response, labels, _ = drawn()
    labels = labels.clamp(max=1)  # the third class has no label
    answers, found = response.argmax(1), labels >= 0
    truth, answer = labels[found].numpy(), answers[found].numpy()
    pairs = count_pairs(answers, labels, 3)
    assert np.array_equal(pairs.numpy(), confusion_matrix(truth, answer, labels=[0, 1, 2]))
    assert float(mean_iou(pairs)) == pytest.approx(jaccard_score(truth, answer, labels=[0, 1], average="macro"))
