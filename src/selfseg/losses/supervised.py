"""Losses on labels: cross entropies, weights by class and by border, soft Dice, distances; the overlap by which weights are chosen."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from selfseg.losses._valid import check_labels, check_pixels, cross_entropies, labelled_mean, mean_over
from selfseg.regions import blobs
from selfseg.sample.shared_batch import total

REACH = 4
"""Objects farther than this many sigmas are not looked at: what is left out is below w0 exp(-8)."""

RIM = 2
"""Pixels around an object in which its distance, 0 there, is learned though they have no label."""


def weighted_cross_entropy(response: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response, a weighted mean over the labelled pixels, in nats; 0 without one.

    .. math:: L = -\frac{\sum_x w(x) \log p_{l(x)}(x)}{\sum_x w(x)}

    `response` is ``[B K *S]``, before the softmax; `labels` ``[B *S]`` int64 are 0..K-1, -1 = not labelled; `weights` ``[B *S]`` are not
    negative, None = all 1. Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, equation 1, which sums; the mean keeps the step size from
    growing with the image and with the weights.

    Raises
    ------
    UsageError
        If `labels` or `weights` has another shape than the pixels of `response`.
    """
    check_labels(labels, weights, response)
    return labelled_mean(cross_entropies(response, labels.clamp(min=0)), labels, weights)


def class_weights(pixels: Tensor, power: float = 1.0) -> Tensor:
    r"""Return a weight for each class that makes up for its frequency, ``[K]`` float32, with a mean of 1 over the labelled pixels.

    .. math:: w_c \propto n_c^{-a}, \qquad \sum_c n_c w_c = \sum_c n_c

    `pixels` ``[K]`` are the labelled pixels n of each class; a class without one weighs 1. The exponent a is `power`: 0 = no balance,
    1 = every class counts the same in all.
    """
    counts = pixels.float()
    found = counts > 0
    raw = torch.where(found, counts.clamp(min=1).pow(-power), torch.zeros_like(counts))
    scale = counts.sum() / (counts * raw).sum().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(found, raw * scale, torch.ones_like(raw))


def binary_cross_entropy(response: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the binary cross entropy of the class probabilities, a mean over classes and a weighted mean over pixels.

    .. math:: L = -\frac{1}{K \sum_x w(x)} \sum_x w(x) \sum_k t_k(x) \log p_k(x) + (1 - t_k(x)) \log(1 - p_k(x))

    with p the softmax of the response and t 1 for the pixel's class, else 0. With two classes this is the cross entropy, and that of a
    single logit, the difference of both responses. Arguments, unit and errors as for `weighted_cross_entropy`.
    """
    check_labels(labels, weights, response)
    log_yes = response.log_softmax(1)
    tiny = torch.finfo(response.dtype).eps
    log_no = (-torch.expm1(log_yes.clamp(max=-tiny))).log()  # 1 - p, without cancellation
    wanted = indicators(labels, response.shape[1])
    return labelled_mean(-torch.where(wanted, log_yes, log_no).mean(1), labels, weights)


def scribble(response: Tensor, annotations: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the annotations, over the pixels that have one, in nats.

    .. math:: L_{scr} = -\frac{1}{|H|} \sum_{n \in H} \log \frac{\exp r'_{n, h_n}}{\sum_i \exp r'_{n, i}}

    It is 0 without an annotation. Kim, Kanezaki and Tanaka, IEEE TIP 2020, equation 6.

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    annotations
        ``[B *S]`` int64: class wanted, 0..K-1; -1 = no annotation.
    valid
        ``[B *S]`` bool; an annotation on a pixel that is False does not count. None = all count.

    Raises
    ------
    UsageError
        If `annotations` or `valid` has another shape than the pixels of `response`.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import scribble
    >>> response = torch.tensor([[2.0, 2.0, -1.0], [-1.0, -1.0, 3.0]]).reshape(1, 2, 1, 3)
    >>> annotations = torch.tensor([[[0, -1, 1]]])
    >>> round(scribble(response, annotations).item(), 4)
    0.0334
    """
    check_pixels("annotations", annotations, response)
    check_pixels("valid", valid, response)
    annotated = annotations >= 0
    if valid is not None:
        annotated = annotated & valid
    return mean_over(cross_entropies(response, annotations.clamp(min=0)), annotated)


def indicators(labels: Tensor, n_classes: int) -> Tensor:
    """Return for each class where its label is, ``[B K *S]`` bool, of labels ``[B *S]``; no class where they are negative."""
    classes = torch.arange(n_classes, device=labels.device)
    return labels.unsqueeze(1) == classes.view(1, -1, *(1,) * (labels.ndim - 1))


def soft_dice(probabilities: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    r"""Return one minus the mean soft Dice coefficient, over the classes that have a label in the batch: 0-1; 0 without a label.

    .. math:: L = 1 - \frac{1}{|C|} \sum_{c \in C} \frac{2 \sum_x p_c(x) t_c(x) + s}{\sum_x p_c(x)^2 + \sum_x t_c(x)^2 + s}

    Sums run over the labelled pixels of all images. `probabilities` are p ``[B K *S]``, summing to 1 over K; `labels` ``[B *S]`` int64 are
    0..K-1, -1 = not labelled; s is `smooth`, in pixels: it keeps the gradient of a class of a few pixels finite. Milletari, Navab and
    Ahmadi, V-Net, 3DV 2016, section 3 (with squares in the denominator).

    Raises
    ------
    UsageError
        If `labels` has another shape than the pixels of `probabilities`.
    """
    check_pixels("labels", labels, probabilities)
    labelled = (labels >= 0)[:, None]
    wanted = indicators(labels, probabilities.shape[1]).to(probabilities.dtype)
    found = probabilities.where(labelled, 0.0)
    axes = (0, *range(2, probabilities.ndim))
    sums = total(torch.stack([(found * wanted).sum(axes), wanted.sum(axes), found.square().sum(axes)]))
    both, area, square = sums
    dice = (2 * both + smooth) / (square + area + smooth)
    present = area > 0
    loss: Tensor = (1 - dice).where(present, 0.0).sum() / present.sum().clamp(min=1)
    return loss


def count_pairs(answers: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return how many labelled pixels of each class got each answer, ``[K K]`` int64: rows are labels, columns answers.

    `answers` and `labels` are ``[B *S]`` int64, 0..K-1, and -1 = not labelled.
    """
    labelled = labels >= 0
    pairs = labels[labelled] * n_classes + answers[labelled]
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def mean_iou(pairs: Tensor) -> Tensor:
    r"""Return the mean intersection over union of the classes that have a label.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \frac{n_{cc}}{\sum_k n_{ck} + \sum_k n_{kc} - n_{cc}}

    `pairs` are ``[K K]`` from `count_pairs`, which may be summed over images, and its rows weighed.
    """
    right, labelled = pairs.diagonal(), pairs.sum(1)
    either = pairs.sum(0) + labelled - right
    return (right / either.clamp(min=1e-12))[labelled > 0].mean()


def border_weight(objects: NDArray[np.integer], w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    r"""Return the extra weight of each background pixel between two near objects, ``[*S]`` float32.

    .. math:: w(x) = w_0 \exp\left(-\frac{(d_1(x) + d_2(x))^2}{2 \sigma^2}\right)

    d are the distances to the nearest and to the second nearest object, in pixels; `objects` ``[*S]`` are integers, 0 = background, each
    other value one object. `w0` is the largest weight, `sigma` its fall-off in pixels. Pixels within an object, and those without two
    objects within reach, get 0. Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, equation 2 (w0 = 10, sigma about 5 pixels).
    """
    from scipy import ndimage

    labels = np.asarray(objects)
    reach = int(np.ceil(REACH * sigma))
    first, second = (np.full(labels.shape, np.inf, np.float32) for _ in range(2))
    values = np.unique(labels[labels > 0])
    dense = np.where(labels > 0, np.searchsorted(values, labels) + 1, 0)
    for number, box in enumerate(ndimage.find_objects(dense), 1):
        around = tuple(
            slice(max(0, part.start - reach), min(n, part.stop + reach))
            for part, n in zip(box, labels.shape, strict=True)
        )
        distance = ndimage.distance_transform_edt(dense[around] != number).astype(np.float32)
        second[around] = np.minimum(second[around], np.maximum(first[around], distance))
        first[around] = np.minimum(first[around], distance)
    gain = w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))
    result: NDArray[np.float32] = np.where(dense > 0, 0.0, gain).astype(np.float32)
    return result


def object_distance(objects: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the distance of each pixel of an object to its border, over the object's largest one: ``[*S]`` float32, 0-1.

    `objects` ``[*S]`` are integers, 0 = background, each other value one object. The image's own border is no border. An object that
    fills the image has no border: it is 1 everywhere. Schmidt, Weigert, Broaddus and Myers, StarDist, MICCAI 2018, section 2.
    """
    labels = blobs.number(objects)
    distance = blobs.border_distance(labels)
    largest = np.zeros(int(labels.max(initial=0)) + 1, np.float32)
    np.maximum.at(largest, labels.ravel(), distance.ravel())
    inside = np.where(largest[labels] > 0, distance / np.maximum(largest[labels], 1e-6), 1)
    return np.where(labels > 0, inside, 0).astype(np.float32)


def distance_error(response: Tensor, distances: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross entropy of the sigmoid of a response against distances, a mean over the pixels that count, in nats.

    `response` and `distances` (0-1, `object_distance`) are ``[B *S]``; `labels` ``[B *S]`` int64, -1 = not labelled, 0 = ground. Labelled
    pixels count, and those up to `RIM` pixels outside an object: between two that touch, where labels leave the rims out, the
    distance has its only valley. Schmidt et al. 2018, section 2: their object probability.
    """
    pool = F.max_pool3d if labels.ndim == 4 else F.max_pool2d
    near = pool((labels > 0).to(response.dtype)[:, None], 2 * RIM + 1, 1, RIM)[:, 0] > 0
    error = F.binary_cross_entropy_with_logits(response, distances, reduction="none")
    return labelled_mean(error, torch.where(near, labels.clamp(min=0), labels), None)


class PixelMaps:
    """Maps that go with the labels of the training images, each computed when it is first asked for; no state.

    Border weights (`border_weight`) where `w0` is above 0, then distances (`object_distance`) where they are asked for. Objects are the
    connected parts of every class but the first, 0.
    """

    def __init__(self, w0: float, sigma: float, distances: bool) -> None:
        self.w0, self.sigma, self.distances = w0, sigma, distances
        self._known: dict[int, Tensor] = {}

    def of(self, index: int, labels: Tensor) -> Tensor:
        """Return the maps of image `index` ``[M *S]``."""
        from skimage.measure import label as connected_components

        if index not in self._known:
            objects = connected_components(labels.clamp(min=0).cpu().numpy(), background=0, connectivity=1)
            made = [border_weight(objects, self.w0, self.sigma)] if self.w0 else []
            made += [object_distance(objects)] if self.distances else []
            self._known[index] = torch.from_numpy(np.stack(made)).half()
        return self._known[index].to(labels.device).float()
