"""From rows to standings, mean and spread over seeds; and their tables: Markdown, CSV, JSON and for the terminal."""

import csv
import io
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from selfseg.benchmark.jobs import Contender
from selfseg.measure.boundary import BoundaryCounts
from selfseg.measure.kinds import Scores, summarize
from selfseg.measure.scales import ScaleScores, ods_ois

Row = Mapping[str, Any]

THRESHOLDS = 100
"""Altitudes at which merge trees are compared over the dataset, as in the Berkeley bench (which has 99)."""


BY_KIND = ("one.mean_dice", "one.ap_50", "one.v_rand")
"""Scores that the table by kind of image has."""


@dataclass(frozen=True)
class Standing:
    """Scores of one contender."""

    contender: Contender
    """Name of the contender."""
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
    """Return the standing of each contender with rows of `jobs.run_job`, in their order; images are ranked by the column `main`."""
    groups: dict[Contender, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[Contender(**row["key"]["contender"])][row["key"]["seed"]].append(row)
    return [_standing(contender, seeds, main) for contender, seeds in groups.items()]


def _standing(contender: Contender, seeds: Mapping[int, list[Row]], main: str) -> Standing:
    runs = [summary_of(rows) for rows in seeds.values()]
    keys = dict.fromkeys(key for run in runs for key in run)
    found = {key: [run.get(key, math.nan) for run in runs] for key in keys}
    values = {key: statistics.fmean(scores) for key, scores in found.items()}
    spread = {key: float(np.std(scores, ddof=1)) for key, scores in found.items()} if len(runs) > 1 else {}
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
    rand, variation, covered = (
        np.asarray(found[name], np.float64)[chosen] for name in ("rand", "variation", "covered")
    )
    regions = np.asarray(found["n_regions"])[chosen]
    return ScaleScores(own, regions, rand, variation, covered, found["covered_best"], found["area"], counts)


def _curve(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Return (mean number of regions, covering of the dataset) at every level."""
    scales = [row["scales"] for row in rows if row["scales"] is not None]
    if not scales:
        return []
    area = sum(found["area"] for found in scales)
    covered = np.sum([found["covered"] for found in scales], axis=0) / area
    regions = np.mean([found["n_regions"] for found in scales], axis=0)
    return sorted(zip(regions.tolist(), covered.tolist(), strict=True))


@dataclass(frozen=True)
class Column:
    """One column."""

    key: str
    """Part and score: ``one.covering``, ``connected.covering``, ``ods.covering``, ``oracle.dice``."""
    head: str
    """Heading."""
    meaning: str
    """Description in a few words."""
    sign: int = 1
    """1 = larger is better, -1 = smaller is better, 0 = neither."""
    digits: int = 3
    """Digits after the point."""

    @property
    def is_oracle(self) -> bool:
        """True if it chooses by the truth."""
        return self.key.split(".")[0] in ("ods", "ois", "oracle")

    @property
    def heading(self) -> str:
        """The heading, oracles marked."""
        return f"{self.head}*" if self.is_oracle else self.head


ONE_OUTPUT = "one output, no choice by labels"

PARTITION = (
    Column("one.covering", "covering", f"{ONE_OUTPUT}: share of the truth covered by the best segments"),
    Column("one.probabilistic_rand_index", "PRI", f"{ONE_OUTPUT}: probabilistic Rand index"),
    Column("one.variation_of_information", "VI", f"{ONE_OUTPUT}: variation of information, bits", -1),
    Column("connected.covering", "covering, cut", "one output, classes cut into connected components"),
    Column("connected.probabilistic_rand_index", "PRI, cut", "the same: probabilistic Rand index"),
    Column("connected.variation_of_information", "VI, cut", "the same: variation of information, bits", -1),
    Column("one.boundary_f", "boundary F", f"{ONE_OUTPUT}: boundary F, one-to-one within .0075 of the diagonal"),
    Column("one.best_overlap_miou", "Kim mIoU", "Kim et al. 2020, all annotators; rewards oversegmentation"),
    Column("ods.covering", "cov. ODS", "ORACLE: best scale for the dataset"),
    Column("ois.covering", "cov. OIS", "ORACLE: best scale for each image"),
    Column("ods.rand", "PRI ODS", "ORACLE: best scale for the dataset"),
    Column("ois.rand", "PRI OIS", "ORACLE: best scale for each image"),
    Column("ods.variation", "VI ODS", "ORACLE: best scale for the dataset, bits", -1),
    Column("ois.variation", "VI OIS", "ORACLE: best scale for each image, bits", -1),
)

CURVE = (
    Column("ods.boundary", "F ODS", "ORACLE: boundary F at the best scale for the dataset"),
    Column("ois.boundary", "F OIS", "ORACLE: boundary F at the best scale for each image"),
)

INSTANCES = (
    Column("one.dice", "Dice", "foreground by a rule without labels (all but the largest class), pooled over pixels"),
    Column("one.mean_dice", "Dice, mean", "the same, mean over images"),
    Column("one.iou", "IoU", "the same foreground, pooled over pixels"),
    Column("one.ap_50", "AP .5", "instances (connected foreground): TP / (TP + FP + FN) at IoU above .5, pooled"),
    Column("one.mean_ap", "AP mean", "mean over IoU .5 to .9 and over images"),
    Column("one.f1_50", "F1 .5", "instances, pooled"),
    Column("one.panoptic_quality", "PQ", "panoptic quality, pooled"),
    Column("oracle.mean_dice", "Dice, oracle", "ORACLE: the union of classes that is best by the truth of each image"),
)

MEMBRANES = (
    Column("one.v_rand", "V_rand", "cells = the largest class; foreground-restricted, borders thinned"),
    Column("one.v_info", "V_info", "the same, information"),
    Column("one.iou", "cell IoU", "pooled over pixels; all cell scores .78 of it"),
    Column("one.accuracy", "accuracy", "share of pixels right"),
    Column(
        "oracle.v_rand", "V_rand, oracle", "ORACLE: the union of classes with the best mean IoU of cells and membranes"
    ),
    Column("oracle.iou", "IoU, oracle", "ORACLE: the same"),
)

LESIONS = (
    Column("one.mean_dice", "Dice", "lesion = the brightest class; mean over volumes"),
    Column("one.lesion_f1", "lesion F1", "by lesion"),
    Column("one.lesion_precision", "precision", "by lesion"),
    Column("one.lesion_recall", "recall", "by lesion"),
    Column("oracle.mean_dice", "Dice, oracle", "ORACLE: the union of classes that is best by the truth of each volume"),
)

WITHOUT_TRUTH = (
    Column("one.boundary_edge_agreement", "edges", "agreement of boundaries with edges"),
    Column("one.borsotti_q", "Borsotti Q", "small is good", -1, 4),
    Column("one.zhang_entropy", "Zhang E", "entropy criterion, small is good", -1),
)

COSTS = (
    Column("n_labels", "labels", "labels in the output, mean", 0, 1),
    Column("seconds", "s", "median seconds an image, learning included where a model is learned an image", -1, 2),
    Column("peak_memory", "MiB", "largest resident memory of the process, libraries included", -1, 0),
)

BY_TASK = {
    "partition": PARTITION,
    "instances": INSTANCES,
    "foreground": MEMBRANES,
    "lesion": LESIONS,
    "none": WITHOUT_TRUTH,
}


def columns_of(task: str, curve: bool = False) -> tuple[Column, ...]:
    """Return the columns of a task's table, costs last."""
    return (*BY_TASK[task], *(CURVE if curve and task == "partition" else ()), *COSTS)


ORACLE_NOTE = (
    "Columns marked * choose by the truth (an oracle: the scale, or which classes are foreground); all others are the one output "
    "that a user gets without labels. Best value of a column in bold."
)


def cell(standing: Standing, column: Column) -> str:
    """Return a value with its spread over seeds: ``.566 ± .004``; a dash without a value."""
    value = standing.values.get(column.key, math.nan)
    if math.isnan(value):
        return "–"
    text = written(value, column.digits)
    spread = standing.spread.get(column.key, math.nan)
    return text if math.isnan(spread) or column.sign == 0 else f"{text} ± {written(spread, column.digits)}"


def written(value: float, digits: int) -> str:
    """Return a number without the zero before the point, as scores are written."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def shown_columns(found: Sequence[Standing], columns: Sequence[Column]) -> list[Column]:
    """Return the columns for which any contender has a value."""
    return [c for c in columns if any(not math.isnan(one.values.get(c.key, math.nan)) for one in found)]


def best_of(found: Sequence[Standing], column: Column) -> float | None:
    """Return the best value of a column as it is written; None where neither end is better."""
    values = [one.values[column.key] for one in found if not math.isnan(one.values.get(column.key, math.nan))]
    if not values or column.sign == 0:
        return None
    return round((max if column.sign > 0 else min)(values), column.digits)


def table_rows(found: Sequence[Standing], columns: Sequence[Column], wanted: int) -> list[list[tuple[str, bool]]]:
    """Return the cells of every contender: text, and whether it is the best of its column."""
    best = {column.key: best_of(found, column) for column in columns}
    rows = []
    for one in found:
        short = "" if one.n_images == wanted else f" ({one.n_images} of {wanted} images)"
        cells = [(one.contender.title + short, False)]
        for column in columns:
            value = one.values.get(column.key, math.nan)
            cells.append((cell(one, column), not math.isnan(value) and round(value, column.digits) == best[column.key]))
        rows.append(cells)
    return rows


def as_markdown(found: Sequence[Standing], columns: Sequence[Column], wanted: int) -> str:
    """Return the table in Markdown, with a line on what is an oracle."""
    columns = shown_columns(found, columns)
    lines = ["| | " + " | ".join(column.heading for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for cells in table_rows(found, columns, wanted):
        lines.append("| " + " | ".join(f"**{text}**" if best else text for text, best in cells) + " |")
    return "\n".join([*lines, "", ORACLE_NOTE, ""])


def kinds_markdown(rows: Sequence[Row], found: Sequence[Standing], columns: Sequence[Column]) -> str:
    """Return a table of means over the images of each kind, in the order of `found`; empty where the images are of one kind.

    Each image counts the same here, however large it is and however many objects it has.
    """
    counts = Counter(kind for kind, _ in {(row["kind"], row["key"]["image"]) for row in rows})
    shown = [column for column in columns if column.key in BY_KIND]
    if len(counts) < 2 or not shown:
        return ""
    what = " / ".join(column.heading for column in shown)
    lines = [f"Mean over images, by kind: {what}", ""]
    lines.append(
        "| | " + " | ".join(["all", *(f"{kind or 'other'} ({counts[kind]})" for kind in sorted(counts))]) + " |"
    )
    lines.append("|---" * (len(counts) + 2) + "|")
    for one in found:
        mine = [row for row in rows if Contender(**row["key"]["contender"]) == one.contender]
        cells = []
        for kind in (None, *sorted(counts)):
            chosen = [row for row in mine if kind is None or row["kind"] == kind]
            values = [[image_value(row, column.key) for row in chosen] for column in shown]
            cells.append(" / ".join(written(float(np.nanmean(v)), 3) if np.isfinite(v).any() else "–" for v in values))
        lines.append(f"| {one.contender.title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def as_csv(found: Sequence[Standing]) -> str:
    """Return every dataset value of every contender, unrounded, one line a contender."""
    keys = list(dict.fromkeys(key for one in found for key in one.values))
    spreads = keys if found[0].spread else []
    lines: list[list[Any]] = [["contender", "images", *keys, *(f"{key} spread" for key in spreads)]]
    for one in found:
        values = [one.values.get(key, math.nan) for key in keys] + [one.spread.get(key, math.nan) for key in spreads]
        lines.append([one.contender.title, one.n_images, *map(_plain, values)])
    return _csv(lines)


def images_csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return one line a row: contender, seed, image, kind, scores of the columns that single images have, seconds, bytes."""
    single = [column.key for column in columns if column.key.split(".")[0] in ("one", "connected", "oracle")]
    lines: list[list[Any]] = [["contender", "seed", "image", "kind", *single, "labels", "seconds", "peak_memory_bytes"]]
    for row in rows:
        key = row["key"]
        which = [Contender(**key["contender"]).title, key["seed"], key["image"], row["kind"]]
        scores = [_plain(image_value(row, name)) for name in single]
        lines.append([*which, *scores, row["n_labels"], row["seconds"], row["peak_memory_bytes"]])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def table_json(found: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return the standings as plain values; null without a value."""
    return [
        {
            "contender": one.contender.title,
            "is_method": one.contender.is_method,
            "images": one.n_images,
            "values": {key: _or_none(value) for key, value in one.values.items()},
            "spread": {key: _or_none(value) for key, value in one.spread.items()},
            "curve": one.curve,
        }
        for one in found
    ]


def for_terminal(found: Sequence[Standing], columns: Sequence[Column], wanted: int, width: int) -> list[Table]:
    """Return tables for rich, as many as fit the width of the terminal; methods in bold, best values in green."""
    columns = shown_columns(found, columns)
    names = max(len(cells[0][0]) for cells in table_rows(found, [], wanted))
    tables, block, room = [], list[Column](), width - names
    for column in columns:
        needed = 2 + max(len(column.heading), *(len(cell(one, column)) for one in found))
        if block and needed > room:
            tables.append(_block(found, block, wanted))
            block, room = [], width - names
        block.append(column)
        room -= needed
    return [*tables, _block(found, block, wanted)]


def _block(found: Sequence[Standing], columns: Sequence[Column], wanted: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for one, cells in zip(found, table_rows(found, columns, wanted), strict=True):
        name = cells[0][0]
        texts = [f"[green]{text}[/green]" if best else text for text, best in cells[1:]]
        table.add_row(f"[bold]{name}[/bold]" if one.contender.is_method else name, *texts)
    return table


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
