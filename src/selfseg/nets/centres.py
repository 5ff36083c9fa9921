"""Centres of k-means as the state of a model: found once, moved by every batch, settled at the end, with their history."""

import torch
from torch import Tensor, nn

from selfseg.sample.k_means import assign_rows, k_means, lloyd, moved_centres, revived

SNAPSHOTS = 32
"""Places in the history, spread evenly over the joint training."""


class MovingCentres(nn.Module):
    """K centres that follow features which are being learned.

    A cluster that loses all its pixels over a whole pass is started anew at the pixel that is farthest from its centre. A cluster
    with few pixels is left alone, however few they are: it may be what is looked for.

    Parameters
    ----------
    n_clusters, n_features
        K and F.

    Attributes
    ----------
    centres
        ``[K F]``.
    counts
        ``[K]`` float64: the mass that each centre remembers.
    spread
        Mean squared difference of the final pixels from their nearest centre, per feature.
    inertia
        The same of the last batch.
    shift
        Root mean square way of the centres in the last batch, per feature.
    history, history_inertia
        ``[32 K F]`` and ``[32]``: centres and inertia over the joint training; `n_kept` of them are filled.
    """

    centres: Tensor
    counts: Tensor
    in_pass: Tensor
    spread: Tensor
    inertia: Tensor
    shift: Tensor
    history: Tensor
    history_inertia: Tensor
    n_kept: Tensor

    def __init__(self, n_clusters: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(n_clusters, n_features))
        self.register_buffer("counts", torch.zeros(n_clusters, dtype=torch.float64))
        self.register_buffer("in_pass", torch.zeros(n_clusters, dtype=torch.float64))
        for name in ("spread", "inertia", "shift"):
            self.register_buffer(name, torch.ones(()) if name == "spread" else torch.zeros(()))
        self.register_buffer("history", torch.zeros(SNAPSHOTS, n_clusters, n_features))
        self.register_buffer("history_inertia", torch.zeros(SNAPSHOTS))
        self.register_buffer("n_kept", torch.zeros((), dtype=torch.int64))

    def begin(self, rows: Tensor, weights: Tensor, total: float, restarts: int, seed: int) -> None:
        """Find the centres in a sample: k-means++ with restarts. They count as if they had seen `total` in mass."""
        found = k_means(rows, len(self.centres), seed, weights, restarts)
        self.centres.copy_(found.centres)
        self.counts.copy_(found.mass * (total / found.mass.sum().clamp(min=1e-12)))
        self.inertia.fill_(found.inertia / rows.shape[1])
        self.spread.copy_(self.inertia)
        self.in_pass.zero_()

    def absorb(self, rows: Tensor, weights: Tensor, memory: float | None) -> None:
        """Move towards the rows ``[N F]`` of a batch (`moved_centres`)."""
        if len(rows) == 0:
            return
        found = assign_rows(rows, self.centres, weights)
        centres, counts = moved_centres(self.centres, self.counts, found, memory)
        self.shift.copy_((centres - self.centres).square().mean().sqrt())
        self.inertia.copy_((found.distances * weights).sum() / weights.sum().clamp(min=1e-12) / rows.shape[1])
        self.centres.copy_(centres)
        self.counts.copy_(counts)
        self.in_pass += found.mass

    def end_pass(self, rows: Tensor) -> None:
        """Start clusters anew that had no pixel in the pass, at the rows of the last batch that are farthest from a centre."""
        empty = self.in_pass == 0
        if bool(empty.any()) and len(rows):
            self.centres.copy_(revived(self.centres, empty, rows, assign_rows(rows, self.centres).distances))
        self.in_pass.zero_()

    def settle(self, rows: Tensor, weights: Tensor) -> None:
        """Let the centres come to rest on a sample of the training pixels (Lloyd's iterations from where they are)."""
        if len(rows) == 0:
            return
        found = lloyd(rows, self.centres, weights)
        self.centres.copy_(found.centres)
        self.counts.copy_(found.mass)
        self.spread.fill_(max(found.inertia / rows.shape[1], 1e-12))

    def figures(self) -> dict[str, float]:
        """Return inertia, shift, and the share of the smallest cluster, for the journal."""
        smallest = float(self.counts.min() / self.counts.sum().clamp(min=1e-12))
        return {"inertia": float(self.inertia), "shift": float(self.shift), "smallest": smallest}

    def keep(self, progress: float) -> None:
        """Write centres and inertia into the history, if `progress` 0-1 has come to the next of its places."""
        if int(self.n_kept) < SNAPSHOTS and progress * (SNAPSHOTS - 1) >= int(self.n_kept):
            self.history[self.n_kept] = self.centres
            self.history_inertia[self.n_kept] = self.inertia
            self.n_kept += 1
