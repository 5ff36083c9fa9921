"""What `soft_ncut` needs of a set of weights between nodes: pixels, voxels, or the nodes of any graph."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from selfseg.core.errors import UsageError


class Forms(NamedTuple):
    """A symmetric matrix of weights W applied to soft classes p.

    Attributes
    ----------
    products
        ``W p``, ``[B K *S]``, in the type of p.
    association
        ``p . W p``: what a class holds together, ``[B K]`` float64.
    volume
        ``p . d``: what a class is tied to altogether, ``[B K]`` float64.
    """

    products: Tensor
    association: Tensor
    volume: Tensor


class Affinity(ABC):
    """Symmetric, non-negative weights ``w(u, v)`` between nodes ``*S``, for each of B images, or one for all of them.

    Attributes
    ----------
    shape
        ``(B, *S)``; B = 1 serves a batch of any size.
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
        degrees = self.degrees(probabilities.dtype).flatten(1).double().unsqueeze(1)  # [B 1 N]
        p = probabilities.detach().flatten(2).double()
        p = p.where(degrees > 0, p.new_zeros(()))  # a node without weights may hold anything, NaN too
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
            fix = "make the affinity from the same images"
            raise UsageError("probabilities", expected=f"shape ({wanted})", got=f"{got}", fix=fix)


@torch.no_grad()
def association(classes: Tensor, affinity: Affinity) -> tuple[Tensor, Tensor]:
    """Return what classes hold together and what they are tied to, summed over the batch, in float64.

    Parameters
    ----------
    classes
        p ``[B K *S]``; all zeros at a node that must not count.
    affinity
        Weights W with degrees d.

    Returns
    -------
    between, volume
        ``p_a . W p_b`` ``[K K]``, and ``p_a . d`` ``[K]``.
    """
    affinity.check(classes)
    k = classes.shape[1]
    rows, pulled = (x.movedim(1, 0).reshape(k, -1).double() for x in (classes, affinity.apply(classes)))
    degrees = affinity.degrees(classes.dtype).expand(len(classes), *classes.shape[2:]).reshape(-1).double()
    return rows @ pulled.T, rows @ degrees


def association_sums(parts: Iterable[tuple[Tensor, Affinity]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return areas ``[K]``, association ``[K K]`` and volume ``[K]`` (`association`), summed over all parts."""
    totals: list[Tensor] = []
    for classes, affinity in parts:
        areas = classes.flatten(2).sum((0, 2), dtype=torch.float64)
        found = [areas, *association(classes, affinity)]
        totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
    areas, between, volume = totals
    return areas, between, volume
