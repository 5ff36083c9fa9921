"""`selfseg evaluate` and `benchmark`: label images, methods and baselines against truth."""

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.app import Bar, Flags, Quiet, app, exit_code, split_names
from selfseg.core.errors import UsageError
from selfseg.core.options import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfseg.benchmark.runner import BenchmarkPlan
    from selfseg.benchmark.tables import Column, Standing
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
    quiet: Quiet = False,
) -> int:
    """Score label images against truth."""
    from selfseg.evaluation.evaluate import evaluate as run

    result = run(labels, truth, split_names(as_), ignore, Bar(quiet or json))
    if json:
        sys.stdout.write(_as_json(result) + "\n")
    else:
        _show_scores(result)
    return exit_code(result.failures)


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


def _show_scores(result: "Evaluation") -> None:
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


@options
class BenchmarkOptions:
    """Methods to compare, and images to compare them on."""

    methods: str = "region_merging"
    """Methods by commas, NAME or NAME:PRESET; with +crf, +contours, +crf+contours: refined."""
    baselines: str = "all"
    """all, none, or names by commas."""
    split: str | None = None
    """Split of the dataset. Default: the usual one."""
    data: Path | None = None
    """Folder with the datasets. Default: where `selfseg datasets` puts downloads."""
    limit: int | None = None
    """Use only so many images, evenly spread over the split."""
    seeds: str = "0"
    """Seeds by commas; with several, tables show mean and spread."""
    classes: int | None = None
    """Exact number of classes. Default: what the dataset says."""
    train: str | None = None
    """Fit each method once on this split (SPLIT or SPLIT:COUNT) instead of on each image alone; methods that need labels get its truth."""
    boundaries: bool = False
    """Score boundaries at every scale too (ODS, OIS, AP); slow."""
    workers: int | None = None
    """Processes. Default: one a core; 1 = all threads for one image at a time."""

    def plan(self, dataset: str, out: Path) -> "BenchmarkPlan":
        """Find the dataset and the contenders; UsageError if one is unknown, or the seeds are no whole numbers."""
        from selfseg.benchmark.jobs import JobContext, find_contenders
        from selfseg.benchmark.runner import BenchmarkPlan
        from selfseg.read.datasets import find_dataset

        found = find_dataset(dataset)
        chosen = {"all": True, "none": False}.get(self.baselines, split_names(self.baselines))
        contenders = tuple(find_contenders(split_names(self.methods), chosen))
        place = JobContext(dataset, self.split or found.default_split, self.data, out)
        seeds = _seeds(self.seeds)
        return BenchmarkPlan(
            place, contenders, seeds, self.limit, self.classes, self.train, self.boundaries, self.workers
        )


@app.command
def benchmark(
    dataset: Annotated[str, Parameter(help="Name of a dataset; `selfseg datasets` lists them.")],
    /,
    *,
    out: Annotated[
        Path, Parameter(name=["--out", "-o"], help="Folder for rows, tables and report; run again to go on.")
    ],
    contest: Annotated[BenchmarkOptions | None, Flags] = None,
    quiet: Quiet = False,
) -> int:
    """Compare methods and cheap baselines on a dataset with truth, in one table."""
    from selfseg.benchmark.outputs import write_outputs
    from selfseg.benchmark.runner import run

    plan, bar = (contest or BenchmarkOptions()).plan(dataset, out), Bar(quiet)
    result = run(plan, bar)
    command = shlex.join(["selfseg", *sys.argv[1:]])
    standings, columns = write_outputs(plan, result, command)
    if not quiet:
        _show_standings(plan, standings, columns)
    bar.say(f"tables, plots and {out / 'report.html'} are written")
    return exit_code(result.failures)


def _show_standings(plan: "BenchmarkPlan", standings: "Sequence[Standing]", columns: "Sequence[Column]") -> None:
    from selfseg.benchmark.tables import ORACLE_NOTE, for_terminal
    from selfseg.read.datasets import find_dataset

    found = find_dataset(plan.place.dataset)
    console, wanted = Console(), len(plan.items())
    console.print(f"[bold]{found.name}, {plan.place.split}[/bold]: {wanted} images of {found.title}\n", highlight=False)
    for table in for_terminal(standings, columns, wanted, console.width):
        console.print(table)
        console.print()
    console.print(ORACLE_NOTE, highlight=False, markup=False)


def _seeds(text: str) -> tuple[int, ...]:
    seeds = split_names(text)
    if not seeds or not all(seed.isdigit() for seed in seeds) or len(set(seeds)) < len(seeds):
        fix = "write for example --seeds 0,1,2"
        raise UsageError("--seeds", expected="different whole numbers by commas", got=repr(text), fix=fix)
    return tuple(int(seed) for seed in seeds)
