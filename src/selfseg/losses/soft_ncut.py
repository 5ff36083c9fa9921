"""Soft normalised cut: classes that hold together what is alike and near. One equation for pixels, voxels and graphs.

The weights W between nodes are an operator, an `Affinity`: `window_affinity` of images and volumes, `edge_affinity` of any graph,
`region_affinity` of superpixels that touch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfseg.core.errors import UsageError
from selfseg.kernels.layout import Offsets, runs_kernels
from selfseg.kernels.on_gpu import runs_triton
from selfseg.losses._valid import check_pixels
from selfseg.sample.device import most_digits, with_most_digits
from selfseg.sample.shared_batch import own_part

EMPTY = 1e-30  # a volume p . d below which a class counts as empty; far above what float32 can divide by
AUTO_FACTOR = 3.0  # times the median step: 10 on photographs in 0..255 (BSDS500: 3.3), the constant of the paper


def soft_ncut(probabilities: Tensor, affinity: "Affinity") -> Tensor:
    r"""Return the soft normalised cut, from 0 (classes share no weight) to K, as a mean over the batch.

    .. math:: J = K - \sum_k \frac{A_k}{D_k}, \qquad A_k = \sum_u p_{uk} \sum_v w_{uv} p_{vk},
              \qquad D_k = \sum_u p_{uk} d_u, \qquad d_u = \sum_v w_{uv}

    Uniform probabilities give K - 1, whatever the image. It has a first derivative only.

    Parameters
    ----------
    probabilities
        p ``[B K *S]``, summing to 1 over K. Half precision is computed in float32.
    affinity
        Weights between the nodes ``*S``: `window_affinity` of an image or a volume, `edge_affinity` of a graph.

    Raises
    ------
    UsageError
        If `probabilities` have other nodes than `affinity`.

    Notes
    -----
    As a class fades, its ratio tends to 0. So a class without any probability (:math:`D_k = 0`) costs 1; it gets no gradient.
    One class that takes everything gives K - 1. The gradient is written by hand: W is symmetric, so

    .. math:: \frac{\partial J}{\partial p_{uk}} = -\frac{1}{B} \left( \frac{2 (W p_k)_u}{D_k} - \frac{A_k d_u}{D_k^2} \right)

    needs nothing that the value has not computed, and of W no more than ``W p`` is kept.

    References
    ----------
    Xia and Kulis, "W-Net", arXiv 1711.08506, section 3.3; Shi and Malik, IEEE TPAMI 2000.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import soft_ncut, window_affinity
    >>> image = torch.zeros(1, 1, 4, 4)
    >>> image[..., 2:] = 255
    >>> affinity = window_affinity(image, radius=2)
    >>> uniform = torch.full((1, 3, 4, 4), 1 / 3)
    >>> round(soft_ncut(uniform, affinity).item(), 4)
    2.0
    """
    if probabilities.dtype in (torch.float16, torch.bfloat16):
        probabilities = probabilities.float()
    affinity.check(probabilities)
    value: Tensor = _SoftNcut.apply(probabilities, affinity)  # type: ignore[no-untyped-call]
    return own_part(value, len(probabilities))


class _SoftNcut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, affinity: "Affinity") -> Tensor:
        products, association, volume = affinity.forms(probabilities)
        alive = volume > EMPTY
        inverse = torch.where(alive, 1 / volume.where(alive, torch.ones_like(volume)), torch.zeros_like(volume))
        ratios = association * inverse
        n_images, n_classes = ratios.shape
        ctx.save_for_backward(products, affinity.degrees(probabilities.dtype))
        ctx.factors = torch.stack([-2 * inverse, ratios * inverse]) / n_images  # of W p, and of d: [2 B K]
        return (n_classes - ratios.sum(1)).mean().to(probabilities.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        products, degrees = ctx.saved_tensors
        factors = (ctx.factors * gradient).to(products.dtype)
        return _combined(products, degrees, factors), None


def _combined(products: Tensor, degrees: Tensor, factors: Tensor) -> Tensor:
    """Return ``f0 W p + f1 d`` for `products` ``[B K *S]``, `degrees` ``[B or 1, *S]`` and `factors` ``[2 B K]``."""
    if runs_kernels(products):
        from selfseg.kernels.window_products import combine

        return combine(products, degrees, factors)
    f0, f1 = factors.reshape(*factors.shape, *(1,) * (products.ndim - 2))
    return torch.addcmul(f0 * products, f1, degrees.unsqueeze(1))


class Forms(NamedTuple):
    """A symmetric matrix of weights W applied to soft classes p: ``W p`` ``[B K *S]``, in the type of p, and two sums over nodes.

    `association` is ``p . W p``, what a class holds together, `volume` ``p . d``, what it is tied to altogether: ``[B K]`` float64.
    """

    products: Tensor
    association: Tensor
    volume: Tensor


class Affinity(ABC):
    """Symmetric, non-negative weights ``w(u, v)`` between nodes ``*S``, for each of B images, or one for all of them.

    `shape` is ``(B, *S)``; B = 1 serves a batch of any size.
    """

    shape: tuple[int, ...]

    @abstractmethod
    def apply(self, probabilities: Tensor) -> Tensor:
        """Return ``(W p)_u = sum_v w(u, v) p_v`` for each class of `probabilities` ``[B K *S]``. No gradient passes."""

    @abstractmethod
    def degrees(self, dtype: torch.dtype) -> Tensor:
        """Return ``d_u = sum_v w(u, v)``, ``[B *S]``, in the floating type `dtype`."""

    def forms(self, probabilities: Tensor) -> Forms:
        """Return ``W p`` and the two sums over nodes that the normalised cut is made of; see `Forms`."""
        products = self.apply(probabilities)
        degrees = with_most_digits(self.degrees(probabilities.dtype)).flatten(1).unsqueeze(1)  # [B 1 N]
        p = with_most_digits(probabilities.detach()).flatten(2)
        p = p.where(degrees > 0, 0.0)  # a node without weights may hold anything, NaN too
        return Forms(products, (p * products.flatten(2)).sum(2), (p * degrees).sum(2))

    def check(self, probabilities: Tensor) -> None:
        """Raise `UsageError` unless `probabilities` are ``[B K *S]`` with this affinity's nodes, float32 or float64."""
        if probabilities.dtype not in (torch.float32, torch.float64):
            kind = str(probabilities.dtype)
            raise UsageError("probabilities", expected="float32 or float64", got=kind, fix="convert them")
        batch, nodes = self.shape[0], self.shape[1:]
        got = tuple(probabilities.shape)
        if len(got) < 3 or got[2:] != nodes or (batch != 1 and got[0] != batch):
            wanted = ", ".join(str(n) for n in ("B" if batch == 1 else batch, "K", *nodes))
            raise UsageError(
                "probabilities",
                expected=f"shape ({wanted})",
                got=f"{got}",
                fix="make the affinity from the same images",
            )


@torch.no_grad()
def association(classes: Tensor, affinity: Affinity) -> tuple[Tensor, Tensor]:
    """Return ``p_a . W p_b`` ``[K K]``, what classes hold together, and ``p_a . d`` ``[K]``, what they are tied to, in float64.

    Both are sums over the batch of classes p ``[B K *S]``, all zeros at a node that must not count.
    """
    affinity.check(classes)
    k = classes.shape[1]
    rows, pulled = (with_most_digits(x.movedim(1, 0).reshape(k, -1)) for x in (classes, affinity.apply(classes)))
    degrees = affinity.degrees(classes.dtype).expand(len(classes), *classes.shape[2:]).reshape(-1).to(rows)
    return rows @ pulled.T, rows @ degrees


def association_sums(parts: Iterable[tuple[Tensor, Affinity]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return areas ``[K]``, association ``[K K]`` and volume ``[K]`` (`association`), summed over all parts."""
    totals: list[Tensor] = []
    for classes, affinity in parts:
        areas = classes.flatten(2).sum((0, 2), dtype=most_digits(classes.device))
        found = [areas, *association(classes, affinity)]
        totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
    areas, between, volume = totals
    return areas, between, volume


def window_affinity(
    image: Tensor,
    radius: float = 5.0,
    sigma_intensity: float | Literal["auto"] = 10.0,
    sigma_space: float = 4.0,
    spacing: Sequence[float] | None = None,
    valid: Tensor | None = None,
) -> "WindowAffinity":
    r"""Return the affinity of the soft normalised cut between the pixels of each image of a batch (Xia and Kulis, "W-Net", section 3.3).

    .. math:: w_{uv} = \exp\left(-\frac{|F_u - F_v|^2}{\sigma_I^2} - \frac{|X_u - X_v|^2}{\sigma_X^2}\right)
              \text{ if } |X_u - X_v| < r, \text{ else } 0

    Strictly less than r, so ``w(u, u) = 1`` and r = 5 gives 69 pixels. Beyond the border there is nothing. It serves probabilities
    ``[B K *S]``, or ``[any K *S]`` if B = 1.

    Parameters
    ----------
    image
        F ``[B C *S]``, ``*S`` = (Y X) or (Z Y X): grey values or vectors of C values, finite where `valid`.
    radius
        r, in pixels, or in the unit of `spacing`.
    sigma_intensity
        :math:`\sigma_I`, in the unit of the image; the paper's 10 is for 0..255. "auto": three times the median step between
        neighbouring pixels (the mean where half of the steps are 0), for each image: 10 on a usual photograph in 0..255.
    sigma_space
        :math:`\sigma_X`, in pixels, or in the unit of `spacing`.
    spacing
        Distance between pixels along each axis of ``*S``; None = 1.
    valid
        ``[B *S]`` bool; a pixel that is False has weight 0 to everything, itself included. None = all count.

    Raises
    ------
    UsageError
        If a shape or a number is none of these.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import soft_ncut, window_affinity
    >>> image = torch.zeros(1, 1, 4, 4)
    >>> image[..., 2:] = 255
    >>> affinity = window_affinity(image, radius=2)
    >>> halves = torch.stack([image[0, 0] == 0, image[0, 0] > 0]).float()[None]
    >>> round(soft_ncut(halves, affinity).item(), 4)
    0.0
    """
    if image.ndim not in (4, 5) or min(image.shape) < 1:
        raise UsageError(
            "image", expected="shape (B, C, Y, X) or (B, C, Z, Y, X)", got=str(tuple(image.shape)), fix="add axes"
        )
    check_pixels("valid", valid, image)
    distances = tuple(float(s) for s in spacing) if spacing is not None else (1.0,) * (image.ndim - 2)
    if len(distances) != image.ndim - 2:
        raise UsageError(
            "spacing",
            expected=f"{image.ndim - 2} numbers",
            got=f"{len(distances)}",
            fix="give one for each spatial axis",
        )
    numbers = {
        "radius": radius,
        "sigma_space": sigma_space,
        "spacing": min(distances),
        "largest spacing": max(distances),
    }
    if sigma_intensity != "auto":
        numbers["sigma_intensity"] = sigma_intensity
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise UsageError(name, expected="a number above 0", got=f"{number}", fix="see window_affinity")
    image = image.detach() if image.dtype in (torch.float32, torch.float64) else image.detach().float()
    if valid is not None:
        image = image.where(valid.unsqueeze(1), 0.0)
    if not _finite(image):
        raise UsageError("image", expected="finite values", got="NaN or infinity", fix="mark such pixels in `valid`")
    if sigma_intensity == "auto":
        sigma = torch.stack([_auto_sigma(F, None if valid is None else valid[b]) for b, F in enumerate(image)])
    else:
        sigma = torch.full((len(image),), float(sigma_intensity), dtype=torch.float64)
    return WindowAffinity(image, list(_half_window(radius, distances)), sigma, sigma_space, valid)


def _finite(image: Tensor) -> bool:
    if image.device.type == "cpu":  # in NumPy: torch would wake its threads for it, which a busy machine makes wait
        return bool(np.isfinite(image.numpy()).all())
    return bool(image.isfinite().all())


def _half_window(radius: float, spacing: tuple[float, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield each offset within the radius that points forward, one of each pair, in order, with its squared length."""
    reaches = [range(-math.ceil(radius / s), math.ceil(radius / s) + 1) for s in spacing]
    for offset in product(*reaches):
        squared = sum((n * s) ** 2 for n, s in zip(offset, spacing, strict=True))
        if squared < radius**2 and offset > (0,) * len(offset):
            yield offset, squared


def _auto_sigma(image: Tensor, valid: Tensor | None) -> Tensor:
    """Return sigma_I of one image ``[C *S]``, float64; see `window_affinity`."""
    steps = []
    for axis in range(1, image.ndim):
        step = with_most_digits(image.diff(dim=axis)).square().sum(0).sqrt()
        if valid is not None:
            n = step.shape[axis - 1]
            step = step[valid.narrow(axis - 1, 0, n) & valid.narrow(axis - 1, 1, n)]
        steps.append(step.flatten())
    every = torch.cat(steps)
    if every.numel() == 0 or not bool(every.any()):
        return torch.ones((), dtype=most_digits(image.device), device=image.device)
    median = every.median()
    return AUTO_FACTOR * (median if float(median) > 0 else every.mean())


class WindowAffinity(Affinity):
    """See `window_affinity`. Weights are computed again at each call: that takes less time than to read them back.

    `offsets` are half of the window, one of each pair, with their squared lengths; `sigma_intensity` is ``[B]`` float64.
    """

    def __init__(
        self, image: Tensor, offsets: Offsets, sigma_intensity: Tensor, sigma_space: float, valid: Tensor | None
    ) -> None:
        self.shape = (image.shape[0], *image.shape[2:])
        self._image, self._valid = image, valid
        sizes = self.shape[1:]
        inside = [o for o in offsets if all(abs(n) < size for n, size in zip(o[0], sizes, strict=True))]
        self._offsets = [(offset, squared / sigma_space**2) for offset, squared in inside]
        self.sigma_intensity = sigma_intensity
        self._degrees: dict[torch.dtype, Tensor] = {}
        self._window: Any = None
        self._known: dict[tuple[int, int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def apply(self, probabilities: Tensor) -> Tensor:
        """Return ``W p``, ``[B K *S]``."""
        self.check(probabilities)
        if runs_kernels(probabilities) or runs_triton(probabilities):
            return self.forms(probabilities).products
        return self._apply_by_offsets(probabilities.detach())

    def degrees(self, dtype: torch.dtype) -> Tensor:
        """Return ``d_u``, ``[B *S]``; they are kept."""
        if dtype not in self._degrees:
            ones = self._image.new_ones((self.shape[0], 1, *self.shape[1:]), dtype=dtype)
            self._degrees[dtype] = self.apply(ones)[:, 0]
        return self._degrees[dtype]

    def forms(self, probabilities: Tensor) -> Forms:
        """Return ``W p``, ``p . W p`` and ``p . d``: of float32 maps in one pass, on a CPU and, with Triton, on a GPU."""
        self.check(probabilities)
        kernels = _window_kernels(probabilities)
        if kernels is None:
            return super().forms(probabilities)
        if self._window is None:
            self._window = kernels.lay_out(self._image, self._valid, self.sigma_intensity, self._offsets)
        alone = len(probabilities) == self.shape[0]  # else one image and its weights for a batch of maps
        rows = []
        for p in (probabilities,) if alone else torch.split(probabilities, 1):
            products, degrees, *sums = kernels.window_products(self._window, p, self._degrees.get(torch.float32))
            self._degrees[torch.float32] = degrees
            rows.append((products, *sums))
        return Forms(*rows[0]) if alone else Forms(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def _apply_by_offsets(self, p: Tensor) -> Tensor:
        """Return ``W p`` for any device and precision: as many offsets at a time as `MOST_PAIRS` allows, each in a few operations."""
        n_classes, n = p.shape[1], math.prod(self.shape[1:])
        values = p if self._valid is None else p.where(self._valid.unsqueeze(1), 0.0)
        framed, products = self._framed(values), torch.zeros_like(values).flatten(2)
        total = 2 * len(self._offsets) + 1
        step = min(total, max(1, MOST_PAIRS // (len(p) * n_classes * n)))
        for start in range(0, total, step):
            places, weights = self._weights(start, start + step, p.dtype)
            products += (framed[:, :, places] * weights.unsqueeze(1)).sum(2)  # [B K O N], summed over O
        return products.view_as(values)

    def _weights(self, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return places ``[O N]`` in the framed image, and weights ``[B O N]``, of the offsets start..stop of the whole window."""
        key = start, stop, dtype
        if key not in self._known:
            self._known = {key: self._new_weights(start, stop, dtype)}  # the last ones: a small image has no others
        return self._known[key]

    def _new_weights(self, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        reach, sizes, device = self._reach, self.shape[1:], self._image.device
        whole = [((0,) * len(sizes), 0.0)]
        for offset, fall in self._offsets:
            whole += [(offset, fall), (tuple(-n for n in offset), fall)]
        wide = [n + 2 * far for n, far in zip(sizes, reach, strict=True)]
        strides = [math.prod(wide[axis + 1 :]) for axis in range(len(wide))]
        here = torch.zeros((), dtype=torch.int64, device=device)
        for far, size, stride in zip(reach, sizes, strides, strict=True):
            here = here.unsqueeze(-1) + stride * torch.arange(far, far + size, device=device)
        chosen = whole[start:stop]
        away = [sum(n * stride for n, stride in zip(offset, strides, strict=True)) for offset, _ in chosen]
        places = here.flatten() + torch.tensor(away, device=device)[:, None]  # [O N]
        image = self._image.to(dtype)
        counts = torch.ones_like(image[:, :1]) if self._valid is None else self._valid.unsqueeze(1).to(dtype)
        squared = (self._framed(image)[:, :, places] - image.flatten(2).unsqueeze(2)).square().sum(1)  # [B O N]
        scale = self.sigma_intensity.to(image).square().reciprocal().view(-1, 1, 1)
        falls = torch.tensor([fall for _, fall in chosen], dtype=dtype, device=device)[:, None]
        both = self._framed(counts)[:, 0][:, places] * counts.flatten(2)
        return places, (-squared * scale - falls).exp() * both

    @property
    def _reach(self) -> tuple[int, ...]:
        """Pixels along each axis to the farthest partner."""
        axes = range(len(self.shape) - 1)
        return tuple(max((abs(offset[axis]) for offset, _ in self._offsets), default=0) for axis in axes)

    def _framed(self, values: Tensor) -> Tensor:
        """Return ``[B K *S]`` with zeros around it as far as the window reaches, as ``[B K N']``."""
        return F.pad(values, [far for far in reversed(self._reach) for _ in range(2)]).flatten(2)


MOST_PAIRS = 1 << 26
"""Pairs of pixels times classes whose products are in memory at once where there is no kernel."""


def _window_kernels(values: Tensor) -> Any:
    """Return the module with the kernels for a map, or None. They are loaded when first used: compilers take their time."""
    if runs_kernels(values):
        from selfseg.kernels import window_products

        return window_products
    if runs_triton(values):
        from selfseg.kernels import window_products_triton

        return window_products_triton
    return None


def edge_affinity(edges: Tensor, weights: Tensor, n_nodes: int) -> "EdgeAffinity":
    """Return the affinity of an undirected graph, which serves all B of probabilities ``[B K R]``.

    Parameters
    ----------
    edges
        ``[E 2]`` integers in 0..n_nodes-1, each pair once, in either order; the weights of a repeated pair add up. An edge
        ``(i, i)`` is the weight of a node to itself; 0 unless it is given.
    weights
        ``[E]`` floating, finite, not negative.
    n_nodes
        Number of nodes R. One that no edge names has no weight to anything, and counts for nothing.

    Raises
    ------
    UsageError
        If shapes, types or values are others than these.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import edge_affinity, soft_ncut
    >>> edges = torch.tensor([[0, 1], [2, 3], [1, 2]])
    >>> affinity = edge_affinity(edges, torch.tensor([1.0, 1.0, 0.0]), n_nodes=4)
    >>> two = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]])
    >>> round(soft_ncut(two, affinity).item(), 4)
    0.0
    """
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.is_floating_point() or edges.is_complex():
        raise UsageError(
            "edges",
            expected="integers of shape (E, 2)",
            got=f"{edges.dtype} {tuple(edges.shape)}",
            fix="give pairs of nodes",
        )
    if weights.shape != edges.shape[:1] or not weights.is_floating_point():
        raise UsageError(
            "weights",
            expected=f"floating numbers of shape ({len(edges)},)",
            got=f"{weights.dtype} {tuple(weights.shape)}",
            fix="give one for each edge",
        )
    if len(edges) and (int(edges.min()) < 0 or int(edges.max()) >= n_nodes):
        raise UsageError(
            "edges",
            expected=f"nodes in 0..{n_nodes - 1}",
            got=f"{int(edges.min())}..{int(edges.max())}",
            fix="check `n_nodes`",
        )
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        raise UsageError(
            "weights", expected="finite numbers, not negative", got="others", fix="use exp(-distance), say"
        )
    return EdgeAffinity(edges.long(), weights.detach(), n_nodes)


class EdgeAffinity(Affinity):
    """See `edge_affinity`."""

    def __init__(self, edges: Tensor, weights: Tensor, n_nodes: int) -> None:
        self.shape = (1, n_nodes)
        apart = edges[:, 0] != edges[:, 1]
        both = torch.cat([edges, edges[apart].flip(1)])  # each pair in both directions, a loop once
        values = torch.cat([weights, weights[apart]])
        sizes = n_nodes, n_nodes
        self._matrix = torch.sparse_coo_tensor(both.T, values, sizes, check_invariants=True).coalesce()

    def apply(self, probabilities: Tensor) -> Tensor:
        """Return ``W p``, ``[B K R]``."""
        self.check(probabilities)
        products = weighted_sums(self._matrix, probabilities.detach().flatten(0, 1).T)  # [R BK]
        return products.T.reshape(probabilities.shape).contiguous()

    def degrees(self, dtype: torch.dtype) -> Tensor:
        """Return the sum of the weights of each node's edges, ``[1 R]``."""
        ones = self._matrix.values().new_ones((self.shape[1], 1), dtype=dtype)
        return weighted_sums(self._matrix, ones).T


def weighted_sums(matrix: Tensor, rows: Tensor) -> Tensor:
    """Return the product of a sparse matrix ``[R R]`` and rows ``[R N]``, not rounded to half precision.

    The documentation of torch does not say that it adds up in one order on a GPU; where a fixed order is required, it is done edge by edge.
    """
    with torch.autocast(rows.device.type, enabled=False):
        if torch.are_deterministic_algorithms_enabled() and rows.device.type != "cpu":
            to, come_from = matrix.indices()
            shares = matrix.values().to(rows.dtype)[:, None] * rows[come_from]
            return rows.new_zeros(rows.shape).index_add(0, to, shares)
        products: Tensor = torch.sparse.mm(matrix.to(rows.dtype), rows)
        return products


def region_affinity(
    edges: Tensor,
    distances: Tensor,
    n_nodes: int,
    tau: float = -1.0,
    lengths: Tensor | None = None,
    sizes: Tensor | None = None,
) -> "EdgeAffinity":
    r"""Return the affinity of the soft normalised cut on a superpixel graph; nodes have no weight to themselves.

    .. math:: w_{ij} = \exp(\tau d_{ij}) \; \frac{l_{ij}}{\bar l} \; \frac{n_i n_j}{\bar n^2}

    The first factor, with :math:`\tau` = tau_cut, is that of Leng et al., "Unsupervised few-shot image segmentation with dense feature
    learning and sparse clustering", VISAPP 2024.

    Parameters
    ----------
    edges
        ``[E 2]`` integers, each pair of neighbours once.
    distances
        d ``[E]`` floating, finite: how far the mean colours of the two are apart.
    n_nodes
        Number of superpixels R.
    tau
        :math:`\tau`, below 0 for weights that fall with the distance, in 1 / unit of the distances.
    lengths, sizes
        l ``[E]``, the boundary that two share, and n ``[R]``, the pixels of each. None = the factor is left out, as in the origin.

    Raises
    ------
    UsageError
        If shapes or values do not fit, or the weights overflow.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import region_affinity, soft_ncut
    >>> edges = torch.tensor([[0, 1], [2, 3], [1, 2]])
    >>> affinity = region_affinity(edges, torch.tensor([0.0, 0.0, 20.0]), n_nodes=4)
    >>> two = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]])
    >>> round(soft_ncut(two, affinity).item(), 4)
    0.0
    """
    weights = torch.exp(tau * distances)
    for name, values, n in (("lengths", lengths, len(edges)), ("sizes", sizes, n_nodes)):
        if values is not None and values.shape != (n,):
            raise UsageError(
                name, expected=f"shape ({n},)", got=str(tuple(values.shape)), fix="use one superpixel graph"
            )
    if lengths is not None and len(lengths):
        weights = weights * (lengths / lengths.to(weights).mean())
    if sizes is not None and len(edges):
        shares = sizes.to(weights) / sizes.to(weights).mean()
        weights = weights * shares[edges[:, 0]] * shares[edges[:, 1]]
    return edge_affinity(edges, weights, n_nodes)
