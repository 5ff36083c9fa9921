"""From rows to standings: what each contender reaches on the whole dataset, mean and spread over seeds."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.benchmark.contenders import Contender
from selfseg.measure.boundary import BoundaryCounts
from selfseg.measure.kinds import Scores, summarize
from selfseg.measure.scales import ScaleScores, ods_ois

Row = Mapping[str, Any]

THRESHOLDS = 100
"""Altitudes at which merge trees are compared over the dataset, as in the Berkeley bench (which has 99)."""


@dataclass(frozen=True)
class Standing:
    """What one contender reaches."""

    contender: Contender
    """Who."""
    n_images: int
    """Images that it did, of those that were asked for; the least over seeds."""
    values: dict[str, float]
    """Mean over seeds by the key of a column (`columns`)."""
    spread: dict[str, float]
    """Sample standard deviation over seeds; empty for one seed."""
    curve: list[tuple[float, float]]
    """Points (mean number of regions, covering) over scales, of the first seed."""
    by_image: dict[str, float]
    """Main score of each image, mean over seeds."""


def standings(rows: Sequence[Row], main: str) -> list[Standing]:
    """Return the standing of each contender that has rows of `jobs.run_job`, in their order.

    `main` is the key of the column by which images are ranked.
    """
    groups: dict[Contender, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[Contender(**row["key"]["contender"])][row["key"]["seed"]].append(row)
    return [_standing(contender, seeds, main) for contender, seeds in groups.items()]


def _standing(contender: Contender, seeds: Mapping[int, list[Row]], main: str) -> Standing:
    runs = [summary_of(rows) for rows in seeds.values()]
    keys = dict.fromkeys(key for run in runs for key in run)
    values = {key: statistics.fmean([run.get(key, math.nan) for run in runs]) for key in keys}
    spread = {}
    if len(runs) > 1:
        spread = {key: float(np.std([run.get(key, math.nan) for run in runs], ddof=1)) for key in keys}
    images: dict[str, list[float]] = defaultdict(list)
    for rows in seeds.values():
        for row in rows:
            images[row["key"]["image"]].append(image_value(row, main))
    first = next(iter(seeds.values()))
    by_image = {name: statistics.fmean(scores) for name, scores in images.items()}
    return Standing(contender, min(map(len, seeds.values())), values, spread, _curve(first), by_image)


def image_value(row: Row, key: str) -> float:
    """Return one score of one row by the key of its column; NaN if it has none."""
    part, _, name = key.partition(".")
    if not name:
        return float(row.get(key, math.nan))
    scores = row.get(part)
    return math.nan if scores is None else Scores.from_json(scores).row().get(name, math.nan)


def summary_of(rows: Sequence[Row]) -> dict[str, float]:
    """Return every dataset value of one contender and one seed, by the key of its column."""
    result: dict[str, float] = {}
    for part in ("one", "connected", "oracle"):
        scored = [Scores.from_json(row[part]) for row in rows if row[part] is not None]
        result |= {f"{part}.{name}": value for name, value in summarize(scored).items()}
    result["n_labels"] = statistics.fmean(row["n_labels"] for row in rows)
    result["seconds"] = statistics.median(row["seconds"] for row in rows)
    result["peak_memory"] = max(row["peak_memory_bytes"] for row in rows) / 2**20
    return result | _best_scales(rows)


def _best_scales(rows: Sequence[Row]) -> dict[str, float]:
    """Return ODS and OIS; merge trees are compared at thresholds of altitude, lists at their own levels."""
    scales = [row["scales"] for row in rows]
    if not scales or any(found is None for found in scales):
        return {}
    best = ods_ois([_at_common_levels(found, thresholds(scales)) for found in scales])
    result: dict[str, float] = {}
    for name in ("covering", "rand", "variation", "boundary"):
        found = getattr(best, name)
        if found is not None:
            result |= {f"ods.{name}": found.ods, f"ois.{name}": found.ois, f"level.{name}": found.level}
    return result


def thresholds(scales: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """Return altitudes at which all merge trees are compared, spread as the altitudes of all images are; None for lists."""
    if scales[0]["altitudes"] is None:
        return None
    every = np.concatenate([found["altitudes"] for found in scales])
    return np.unique(np.quantile(every, np.linspace(0, 1, THRESHOLDS)))


def _at_common_levels(found: Mapping[str, Any], levels: NDArray[np.float64] | None) -> ScaleScores:
    """Return the scores at levels that all images share: for a tree, the coarsest scored cut at or below each altitude."""
    chosen = np.arange(len(found["levels"]))
    own = np.asarray(found["levels"], np.float64)
    if levels is not None:
        # Numbers of regions ascend, so altitudes fall: the first cut that is low enough is the coarsest one.
        low_enough = np.asarray(found["altitudes"])[None] <= levels[:, None]
        chosen = np.where(low_enough.any(1), low_enough.argmax(1), low_enough.shape[1] - 1)
        own = levels
    counts = tuple(BoundaryCounts(*found["boundaries"][k]) for k in chosen) if found["boundaries"] else ()
    return ScaleScores(
        own,
        np.asarray(found["n_regions"])[chosen],
        np.asarray(found["rand"], np.float64)[chosen],
        np.asarray(found["variation"], np.float64)[chosen],
        np.asarray(found["covered"], np.float64)[chosen],
        found["covered_best"],
        found["area"],
        counts,
    )


def _curve(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Return (mean number of regions, covering of the dataset) at every level."""
    scales = [row["scales"] for row in rows if row["scales"] is not None]
    if not scales:
        return []
    area = sum(found["area"] for found in scales)
    covered = np.sum([found["covered"] for found in scales], axis=0) / area
    regions = np.mean([found["n_regions"] for found in scales], axis=0)
    return sorted(zip(regions.tolist(), covered.tolist(), strict=True))
