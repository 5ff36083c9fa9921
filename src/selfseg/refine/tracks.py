"""Objects over time: the same id in every frame, and which object divided into which.

The linear assignment problem of Jaqaman et al. (Nature Methods 5, 2008) as laptrack (Fukai & Kawaguchi 2023) solves it: first
the objects of each two frames are joined so that the squared distances of their centres add up to the least, where an object may also
end or begin; then ends are joined to beginnings over a gap, and to the middle of tracks, which then divide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError

REACH = 1.5
"""Farthest way between two frames, in diameters of the median object."""

GAP = 1
"""Frames in a row in which an object may be missing."""


@dataclass(frozen=True)
class Tracks:
    """Ids of objects over time.

    Attributes
    ----------
    ids
        Of each frame: track ``[N_t]`` of each object, 1..T in the order in which they begin.
    parents
        Track that divided, by the tracks that it divided into.
    """

    ids: tuple[NDArray[np.int64], ...]
    parents: dict[int, int]


def import_laptrack() -> Any:
    """Return laptrack's tracker, or raise `UsageError` if it is not installed."""
    try:
        from laptrack import LapTrack
    except ImportError as error:
        raise UsageError(
            "objects over time",
            expected="laptrack",
            got="no such package",
            fix="pip install 'selfseg[track]', or leave --link or the objects out",
        ) from error
    return LapTrack


def link_objects(centres: Sequence[NDArray[np.floating]], reach: float) -> Tracks:
    """Link the objects of frames by their centres.

    Parameters
    ----------
    centres
        Of each frame ``[N_t D]``, in one unit; a frame may have none.
    reach
        Farthest way of an object between two frames, in the same unit.

    Raises
    ------
    UsageError
        If laptrack is not installed.
    """
    if sum(map(len, centres)) == 0:
        return Tracks(tuple(np.zeros(0, np.int64) for _ in centres), {})
    cost = float(reach) ** 2
    tracker = import_laptrack()(
        cutoff=cost,
        splitting_cutoff=cost,
        gap_closing_cutoff=cost,
        gap_closing_max_frame_count=GAP + 1,
        merging_cutoff=False,
    )
    n_dims = next(frame.shape[1] for frame in centres if len(frame))
    graph = tracker.predict([np.asarray(frame, np.float64).reshape(len(frame), n_dims) for frame in centres])
    ids = tuple(np.zeros(len(frame), np.int64) for frame in centres)
    parents: dict[int, int] = {}
    n_tracks = 0
    for frame, place in sorted(graph.nodes):
        before = next(iter(graph.predecessors((frame, place))), None)
        if before is not None and graph.out_degree(before) == 1:
            ids[frame][place] = ids[before[0]][before[1]]
            continue
        n_tracks += 1
        ids[frame][place] = n_tracks
        if before is not None:
            parents[n_tracks] = int(ids[before[0]][before[1]])
    return Tracks(ids, parents)
