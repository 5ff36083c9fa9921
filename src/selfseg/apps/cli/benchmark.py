"""`selfseg benchmark`: methods and baselines on a dataset with truth, in one table."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from selfseg.apps.cli.app import Flags, Report, app, exit_code, reporter, split_names
from selfseg.core.errors import UsageError
from selfseg.core.options import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfseg.benchmark.runner import BenchmarkPlan
    from selfseg.benchmark.tables import Column, Standing


@options
class BenchmarkOptions:
    """Methods to compare, and images to compare them on."""

    methods: str = "contours"
    """Methods by commas, NAME or NAME:PRESET; with +crf, +contours, +crf+contours: refined."""
    baselines: str = "all"
    """all, none, or names by commas."""
    split: str | None = None
    """Split of the dataset. Default: the usual one."""
    data: Path | None = None
    """Folder with the datasets. Default: where `selfseg datasets` puts downloads."""
    limit: int | None = None
    """Most images to use, evenly spread over the split."""
    seeds: str = "0"
    """Seeds by commas; with several, tables show mean and spread."""
    classes: int | None = None
    """Exact number of classes. Default: that of the dataset."""
    train: str | None = None
    """Fit each method once on this split (SPLIT or SPLIT:COUNT) instead of on each image alone; methods that need labels get its truth."""
    boundaries: bool = False
    """Score boundaries at every scale too (ODS, OIS, AP); slow."""
    workers: int | None = None
    """Processes. Default: one a core; 1 = all threads for one image at a time."""

    def plan(self, dataset: str, out: Path) -> "BenchmarkPlan":
        """Find the dataset and the contenders; `UsageError` if one is unknown, or the seeds are no whole numbers."""
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
        Path,
        Parameter(name=["--out", "-o"], help="Folder for rows, tables and report; repeat the command to continue."),
    ],
    contest: Annotated[BenchmarkOptions | None, Flags] = None,
    report: Report = None,
) -> int:
    """Compare methods and cheap baselines on a dataset with truth, in one table."""
    from selfseg.benchmark.outputs import write_outputs
    from selfseg.benchmark.runner import run

    plan, bar = (contest or BenchmarkOptions()).plan(dataset, out), reporter(report)
    result = run(plan, bar)
    command = shlex.join(["selfseg", *sys.argv[1:]])
    standings, columns = write_outputs(plan, result, command)
    if not bar.quiet:
        _show(plan, standings, columns)
    bar.say(f"tables, plots and {out / 'report.html'} are written")
    return exit_code(result.failures, bar)


def _show(plan: "BenchmarkPlan", standings: "Sequence[Standing]", columns: "Sequence[Column]") -> None:

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
        raise UsageError(
            "--seeds",
            expected="different whole numbers by commas",
            got=repr(text),
            fix="write for example --seeds 0,1,2",
        )
    return tuple(int(seed) for seed in seeds)
