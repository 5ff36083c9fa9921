"""K-means on rows of any device: exact assignment, k-means++ with restarts, Lloyd's iterations, and centres that move by mini-batch.

Distances are sums of squared differences, not the expanded form with a product, which loses the digits of close rows. On a CPU
one kernel reads each row once for its label, its distance and the sums of its cluster; elsewhere torch does the same in pieces.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfseg.core.errors import InputError
from selfseg.core.machine import compiled, run_shared
from selfseg.core.seed import derive, generator
from selfseg.sample.device import most_digits, with_most_digits

PIECE = 1 << 16
"""Rows that are looked at together where torch computes."""

BLOCK = 1 << 14
"""Rows that are summed together. Blocks do not depend on the number of threads, so neither do the sums."""


class Assigned(NamedTuple):
    """Rows given to their nearest centre."""

    labels: Tensor
    """``[N]`` int64; of equally near centres the first."""
    distances: Tensor
    """``[N]`` squared distance to that centre."""
    sums: Tensor
    mass: Tensor
    """``[K F]`` and ``[K]`` float64: weighted sum of the rows of each centre, and sum of their weights."""


class Clusters(NamedTuple):
    """Centres ``[K F]``, the mass ``[K]`` of their rows, and the inertia: the weighted mean squared distance of a row."""

    centres: Tensor
    mass: Tensor
    inertia: float


@torch.no_grad()
def assign_rows(rows: Tensor, centres: Tensor, weights: Tensor | None = None) -> Assigned:
    """Give each row to its nearest centre.

    Parameters
    ----------
    rows
        ``[N F]`` float32.
    centres
        ``[K F]``, K at least 1.
    weights
        ``[N]``, what each row counts; None = 1.
    """
    rows, centres = rows.detach().float(), centres.detach().float()
    if rows.device.type == "cpu":
        counted = np.empty(0, np.float32) if weights is None else weights.float().numpy()
        found = _pass_over(rows.contiguous().numpy(), counted, centres.contiguous().numpy())
        return Assigned(*(torch.from_numpy(part) for part in found))
    pieces = rows.split(PIECE)
    shares: Sequence[Tensor | None] = [None] * len(pieces) if weights is None else weights.float().split(PIECE)
    parts = [_assign_piece(piece, centres, share) for piece, share in zip(pieces, shares, strict=True)]
    if len(parts) == 1:
        return parts[0]
    labels, distances, sums, mass = zip(*parts, strict=True)
    return Assigned(torch.cat(labels), torch.cat(distances), torch.stack(sums).sum(0), torch.stack(mass).sum(0))


@torch.no_grad()
def nearest_rows(rows: Tensor, centres: Tensor) -> Tensor:
    """Return the labels ``[N]`` of `assign_rows` alone, which take a device fewer launches."""
    if rows.device.type == "cpu":
        return assign_rows(rows, centres).labels
    parts = [_distances(piece, centres).argmin(1) for piece in rows.detach().float().split(PIECE)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _distances(rows: Tensor, centres: Tensor) -> Tensor:
    with torch.autocast(rows.device.type, enabled=False):
        return torch.cdist(rows, centres.detach().float(), compute_mode="donot_use_mm_for_euclid_dist")


def _assign_piece(rows: Tensor, centres: Tensor, weights: Tensor | None) -> Assigned:
    with torch.autocast(rows.device.type, enabled=False):
        nearest = _distances(rows, centres).min(1)
        # A product with one-hot rows adds up in a fixed order; index_add_ on a GPU does not.
        share = nearest.indices[:, None] == torch.arange(len(centres), device=rows.device)
        share = (
            share.to(most_digits(rows.device))
            if weights is None
            else share * weights.to(most_digits(rows.device))[:, None]
        )
        return Assigned(nearest.indices, nearest.values.square(), share.T @ rows.to(share), share.sum(0))


@torch.no_grad()
def seed_centres(rows: Tensor, n_clusters: int, seed: int, weights: Tensor | None = None) -> Tensor:
    """Return centres ``[K F]`` among the rows by greedy k-means++ (Arthur & Vassilvitskii, SODA 2007).

    Each further centre is drawn with a probability that grows with its weighted squared distance to those chosen; of
    2 + ln K draws the one that leaves the least is taken. The draws are the same on every device. Where fewer than K rows differ,
    centres coincide. Raise `InputError` if there is no row.
    """
    if len(rows) == 0:
        raise InputError("k-means", expected="at least one row", got="none", fix="check the mask of the images")
    draws = generator(seed, "k-means++").random((n_clusters, 2 + int(np.log(n_clusters))))
    counted = with_most_digits(rows.new_ones(len(rows)) if weights is None else weights)
    chosen = [_drawn(counted, draws[0, :1])]
    nearest = with_most_digits((rows - rows[chosen[0]]).square().sum(1))
    for k in range(1, n_clusters):
        candidates = _drawn(counted * nearest, draws[k])
        apart = (rows - rows[candidates].unsqueeze(1)).square().sum(2)  # [draws N]
        reached = torch.minimum(nearest, apart)
        best = (reached @ counted).argmin(0, keepdim=True)
        chosen.append(candidates[best])
        nearest = reached[best][0]
    return rows[torch.cat(chosen)]


def _drawn(chances: Tensor, draws: np.ndarray) -> Tensor:
    """Return the indices that `draws` in 0-1 stand for, with the given chances; any index where all chances are 0."""
    # Where a fixed order is required, torch has no sum of this kind on a GPU.
    on_host = torch.are_deterministic_algorithms_enabled() and chances.device.type != "cpu"
    cumulated = chances.cpu().cumsum(0).to(chances.device) if on_host else chances.cumsum(0)
    cumulated = cumulated.where(cumulated[-1] > 0, torch.arange(1, len(chances) + 1, device=chances.device))
    wanted = torch.from_numpy(draws).to(chances) * cumulated[-1]
    return torch.searchsorted(cumulated, wanted, right=True).clamp(max=len(chances) - 1)


@torch.no_grad()
def lloyd(
    rows: Tensor, centres: Tensor, weights: Tensor | None = None, iterations: int = 100, tolerance: float = 1e-4
) -> Clusters:
    """Move centres to the means of their rows until they rest (Lloyd, IEEE Trans. Inf. Theory 28, 1982).

    A centre without rows goes to the row that is farthest from its own centre; one with few rows stays, however few they are.

    Parameters
    ----------
    centres
        ``[K F]``, where to begin; `rows` and `weights` as in `assign_rows`.
    tolerance
        Stop when the centres move by no more than this share of the variance of the rows, in summed squares. 0 = when no row
        changes its centre.
    """
    rest = tolerance * float(rows.var(0, correction=0).mean()) if tolerance else 0.0
    found, before = assign_rows(rows, centres, weights), None
    for _ in range(iterations):
        moved = means_of(found, rows, centres)
        if tolerance:  # rows that all stay where they are leave the centres where they are
            rests = float((moved - centres).square().sum()) <= rest
        else:
            rests = before is not None and torch.equal(before, found.labels)
        centres, before = moved, found.labels
        found = assign_rows(rows, centres, weights)
        if rests:
            break
    counted = with_most_digits(found.distances) * (1 if weights is None else weights)
    return Clusters(centres, found.mass, float(counted.sum() / found.mass.sum()))


def means_of(found: Assigned, rows: Tensor, centres: Tensor) -> Tensor:
    """Return the means of the clusters ``[K F]``; those without rows begin anew (`revived`)."""
    moved = (found.sums / found.mass[:, None]).to(centres.dtype)  # 0 / 0 where nothing is, which is not taken
    empty = found.mass == 0
    return revived(torch.where(empty[:, None], centres, moved), empty, rows, found.distances)


def revived(centres: Tensor, empty: Tensor, rows: Tensor, distances: Tensor) -> Tensor:
    """Return the centres ``[K F]`` with each `empty` ``[K]`` one at one of the rows that are farthest from their centres.

    A row that lies on its centre is taken by none: where fewer rows differ than there are centres, some stay empty.
    """
    if not bool(empty.any()):
        return centres
    places = empty.nonzero().flatten()
    far = distances.topk(min(len(places), len(rows)))
    chosen = far.indices[far.values > 0]
    result = centres.clone()
    result[places[: len(chosen)]] = rows[chosen].to(centres.dtype)
    return result


@torch.no_grad()
def k_means(
    rows: Tensor, n_clusters: int, seed: int, weights: Tensor | None = None, restarts: int = 8, iterations: int = 100
) -> Clusters:
    """Cluster rows: the run of least inertia out of `restarts` runs of `lloyd`, each from centres of its own by `seed_centres`.

    Examples
    --------
    >>> import torch
    >>> from selfseg.sample.k_means import k_means
    >>> rows = torch.tensor([[0.0], [0.2], [9.0], [9.2]])
    >>> k_means(rows, 2, seed=0).centres.sort(0).values.flatten()
    tensor([0.1000, 9.1000])
    """
    starts = (seed_centres(rows, n_clusters, derive(seed, "restart", i), weights) for i in range(restarts))
    return min((lloyd(rows, start, weights, iterations) for start in starts), key=lambda run: run.inertia)


@torch.no_grad()
def moved_centres(centres: Tensor, counts: Tensor, found: Assigned, memory: float | None) -> tuple[Tensor, Tensor]:
    r"""Move centres towards the rows of a batch (Sculley, WWW 2010, algorithm 1, in one stroke for the batch).

    .. math:: n_k \leftarrow \gamma n_k + m_k, \quad c_k \leftarrow c_k + \frac{m_k}{n_k} (\bar{x}_k - c_k)

    with the mass m of the batch. With gamma = 1 the centres freeze as counts grow; with gamma = 1 - 1 / memory they keep moving, at
    the pace of the last `memory` batches, and a centre that gets no rows rests where it is.

    Parameters
    ----------
    centres, counts
        ``[K F]``, and ``[K]`` float64: the mass each has seen.
    found
        The batch, assigned to these centres.
    memory
        Batches to remember; None = all.

    Returns
    -------
    centres, counts
        The new ones.
    """
    kept = counts if memory is None else counts * (1 - 1 / max(memory, 1.0))
    after = torch.where(found.mass > 0, kept + found.mass, counts)
    pace = 1 / after.clamp(min=torch.finfo(after.dtype).tiny)  # of a centre without rows it is multiplied by 0
    step = pace[:, None] * (found.sums - found.mass[:, None] * centres.to(found.sums))
    return (centres.to(step) + step).to(centres.dtype), after


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _blocks(
    first: Any, last: Any, rows: Any, weights: Any, centres: Any, labels: Any, distances: Any, sums: Any, mass: Any
) -> None:
    """Do blocks first..last: fill ``labels [N]`` and ``distances [N]``, add up ``sums [blocks K F]`` and ``mass [blocks K]``."""
    K, F = np.uint64(centres.shape[0]), np.uint64(centres.shape[1])
    zero: Any = np.uint64(0)
    for block in range(first, last):
        for i in range(block * BLOCK, min(len(rows), (block + 1) * BLOCK)):
            best, nearest = np.float32(np.inf), zero
            for k in range(K):
                total = np.float32(0)
                for f in range(F):
                    away = rows[i, f] - centres[k, f]
                    total += away * away
                if total < best:
                    best, nearest = total, k
            labels[i], distances[i] = nearest, best
            weight = weights[i] if len(weights) else np.float32(1)
            for f in range(F):
                sums[block, nearest, f] += weight * rows[i, f]
            mass[block, nearest] += weight


def _pass_over(
    rows: NDArray[np.float32], weights: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return labels ``[N]``, squared distances ``[N]``, sums ``[K F]`` and mass ``[K]`` of rows ``[N F]``; no weights = 1."""
    n_blocks = max(1, -(-len(rows) // BLOCK))
    labels, distances = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    sums, mass = np.zeros((n_blocks, *centres.shape)), np.zeros((n_blocks, len(centres)))
    run_shared(_blocks, n_blocks, rows, weights, centres, labels, distances, sums, mass)
    return labels, distances, sums.sum(0), mass.sum(0)


def mean_silhouette(rows: Tensor, labels: Tensor, sample: int = 2000, seed: int = 0) -> float:
    """Return the mean silhouette (b - a) / max(a, b) of a sample of rows (Rousseeuw 1987): -1 to 1, large = apart.

    a is the mean distance of a row to the others of its cluster, b the least mean distance to those of another; a row alone in its
    cluster counts 0.

    Parameters
    ----------
    rows
        ``[N F]``.
    labels
        ``[N]`` int64, from 0 on.
    sample
        Rows drawn in all, equally many of each cluster as far as it has them.
    seed
        Of the draw.

    Returns
    -------
    float
        -1 if the sample has rows of one cluster only.
    """
    order = torch.from_numpy(generator(seed, "silhouette").permutation(len(rows)))
    present = labels.unique()
    drawn = torch.cat(
        [order[labels.cpu()[order] == label][: max(2, sample // len(present))] for label in present.cpu()]
    )
    if len(present) < 2:
        return -1.0
    points, own = rows.detach()[drawn].double().cpu(), torch.searchsorted(present, labels[drawn]).cpu()
    member = torch.nn.functional.one_hot(own, len(present)).double()
    totals, sizes = torch.cdist(points, points) @ member, member.sum(0)
    inside = totals.gather(1, own[:, None])[:, 0] / (sizes[own] - 1).clamp(min=1)
    outside = (totals / sizes).masked_fill(member > 0, torch.inf).amin(1)
    scores = (outside - inside) / torch.maximum(inside, outside).clamp(min=torch.finfo(torch.float64).tiny)
    return float(scores.masked_fill(sizes[own] == 1, 0.0).mean())
