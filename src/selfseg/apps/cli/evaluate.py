"""`selfseg evaluate`: score label images against truth, as a table or as JSON."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.app import Report, app, exit_code, reporter, split_names

if TYPE_CHECKING:
    from selfseg.measure.kinds import Evaluation

MEASURES = {
    "covering": "share covered by the best region",
    "probabilistic_rand_index": "agreement of pixel pairs, mean over annotators",
    "variation_of_information": "bits; smaller is better; split + merge",
    "split": "bits lost by cutting true regions",
    "merge": "bits lost by joining true regions",
    "boundary_f": "precision and recall of boundaries, within .0075 of the diagonal",
    "best_overlap_miou": "Kim et al. 2020; rewards oversegmentation",
    "hungarian_iou": "classes matched one to one, image by image",
    "majority_iou": "each label takes the class that it covers most",
    "pooled_hungarian_iou": "classes matched once for all images",
}
"""Meaning of the less known scores."""


@app.command
def evaluate(
    labels: Annotated[Path, Parameter(help="A label image, a folder of them, or the OUT folder of segment.")],
    truth: Annotated[Path, Parameter(help="A truth image, or a folder with truth of the same names.")],
    /,
    *,
    as_: Annotated[
        str,
        Parameter(name="--as", help="What to score, by commas: regions, classes, instances, mask, membranes, lesions."),
    ] = "regions,classes",
    ignore: Annotated[int | None, Parameter(help="Truth value of pixels that do not count.")] = None,
    json: Annotated[bool, Parameter(help="Print JSON, with the scores of each image.")] = False,
    report: Report = None,
) -> int:
    """Score label images against truth."""
    from selfseg.evaluation.evaluate import evaluate as run

    bar = reporter(report, shown=not json)
    result = run(labels, truth, split_names(as_), ignore, bar)
    if json:
        sys.stdout.write(_as_json(result) + "\n")
    else:
        _show(result)
    return exit_code(result.failures, bar)


def _as_json(result: "Evaluation") -> str:
    """Return the scores of all images, their summary and the failures as JSON; null where there was nothing to score."""
    import json

    value = {
        "summary": _clean(result.summary()),
        "images": {name: _clean(scores.row()) for name, scores in result.images.items()},
        "without_labels": result.without_labels,
        "failures": [{"name": name, "error": message} for name, message in result.failures],
    }
    return json.dumps(value, indent=2, ensure_ascii=False)


def _show(result: "Evaluation") -> None:
    """Print the summary as a table; with two to twelve images also the main score of each."""

    count = len(result.images)
    table = Table("score", "value", "meaning", box=None, pad_edge=False, header_style="bold")
    for name, value in result.summary().items():
        table.add_row(name, "-" if math.isnan(value) else f"{value:.4f}", MEASURES.get(name, ""))
    console = Console()
    console.print(f"[bold]{count} image{'s' if count > 1 else ''} scored[/bold]", highlight=False)
    console.print(table)
    if 2 <= count <= 12:
        _show_images(result, console)


def _show_images(result: "Evaluation", console: Console) -> None:

    rows = {name: scores.row() for name, scores in result.images.items()}
    wanted = ("covering", "variation_of_information", "hungarian_iou", "dice", "ap_50", "v_rand")
    names = [name for name in wanted if any(name in row for row in rows.values())]
    table = Table("image", *names, box=None, pad_edge=False, header_style="bold")
    for image, row in rows.items():
        table.add_row(image, *(f"{row.get(name, math.nan):.4f}" for name in names))
    console.print()
    console.print(table)


def _clean(row: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in row.items()}
