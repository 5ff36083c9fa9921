"""What `selfseg evaluate` prints: a table, or JSON."""

import json
import math

from rich.console import Console
from rich.table import Table

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
"""What the less known scores mean."""


def as_json(result: Evaluation) -> str:
    """Return the scores of all images, their summary and the failures as JSON; null where there was nothing to score."""
    value = {
        "summary": _clean(result.summary()),
        "images": {name: _clean(scores.row()) for name, scores in result.images.items()},
        "without_labels": result.without_labels,
        "failures": [{"name": name, "error": message} for name, message in result.failures],
    }
    return json.dumps(value, indent=2, ensure_ascii=False)


def show(result: Evaluation) -> None:
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


def _show_images(result: Evaluation, console: Console) -> None:
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
