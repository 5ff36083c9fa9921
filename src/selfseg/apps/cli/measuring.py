"""The commands that measure: evaluate, benchmark. Heavy imports happen inside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from selfseg.apps.cli.parameters import Quiet, app, verdict
from selfseg.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfseg.benchmark.runner import BenchmarkPlan
    from selfseg.benchmark.standings import Standing
    from selfseg.benchmark.tables import Column


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
    json: Annotated[bool, Parameter(negative="", help="Print JSON, with the scores of each image.")] = False,
    quiet: Quiet = False,
) -> int:
    """Score label images against truth."""
    import sys

    from selfseg.apps.cli.bar import Bar
    from selfseg.apps.cli.evaluate import as_json, show
    from selfseg.evaluation.evaluate import evaluate as run

    result = run(labels, truth, as_.split(","), ignore, Bar(quiet or json))
    if json:
        sys.stdout.write(as_json(result) + "\n")
    else:
        show(result)
    return verdict(result.failures)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who is compared, on which images: the options of benchmark."""

    methods: Annotated[
        str, Parameter(help="Methods by commas, NAME or NAME:PRESET; with +crf, +contours, +crf+contours: refined.")
    ] = "region_merging"
    baselines: Annotated[str, Parameter(help="all, none, or names by commas.")] = "all"
    split: Annotated[str | None, Parameter(help="Split of the dataset; without it, the usual one.")] = None
    data: Annotated[
        Path | None, Parameter(help="Folder with the datasets; without it, where `selfseg datasets` puts downloads.")
    ] = None
    limit: Annotated[int | None, Parameter(help="Use only so many images, evenly spread over the split.")] = None
    seeds: Annotated[str, Parameter(help="Seeds by commas; with several, tables show mean and spread.")] = "0"
    classes: Annotated[int | None, Parameter(help="Exact number of classes; without it, what the dataset says.")] = None
    train: Annotated[
        str | None,
        Parameter(
            help="Fit each method once on this split (SPLIT or SPLIT:COUNT) instead of on each image alone; "
            "methods that need labels get its truth."
        ),
    ] = None
    boundaries: Annotated[
        bool, Parameter(negative="", help="Score boundaries at every scale too (ODS, OIS, AP); slow.")
    ] = False
    workers: Annotated[
        int | None, Parameter(help="Processes; without it, one a core; 1 = all threads for one image at a time.")
    ] = None

    def plan(self, dataset: str, out: Path) -> "BenchmarkPlan":
        """Find the dataset and the contenders.

        Raises
        ------
        UsageError
            If one of them is unknown, or the seeds are no whole numbers.
        """
        from selfseg.benchmark.contenders import find_contenders
        from selfseg.benchmark.jobs import JobContext
        from selfseg.benchmark.runner import BenchmarkPlan
        from selfseg.read.datasets import find_dataset

        found = find_dataset(dataset)
        chosen = {"all": True, "none": False}.get(self.baselines, _names(self.baselines))
        contenders = tuple(find_contenders(_names(self.methods), chosen))
        place = JobContext(dataset, self.split or found.default_split, self.data, out)
        seeds = _seeds(self.seeds)
        return BenchmarkPlan(
            place, contenders, seeds, self.limit, self.classes, self.train, self.boundaries, self.workers
        )


CONTEST = Contest()
"""Every option as it is where nothing is said."""


@app.command
def benchmark(
    dataset: Annotated[str, Parameter(help="Name of a dataset; `selfseg datasets` lists them.")],
    /,
    *,
    out: Annotated[
        Path, Parameter(name=["--out", "-o"], help="Folder for rows, tables and report; run again to go on.")
    ],
    contest: Contest = CONTEST,
    quiet: Quiet = False,
) -> int:
    """Compare methods and cheap baselines on a dataset with truth, in one table."""
    import shlex
    import sys

    from selfseg.apps.cli.bar import Bar
    from selfseg.benchmark.outputs import write_outputs
    from selfseg.benchmark.runner import run

    plan, bar = contest.plan(dataset, out), Bar(quiet)
    result = run(plan, bar)
    command = shlex.join(["selfseg", *sys.argv[1:]])
    standings, columns = write_outputs(plan, result, command)
    if not quiet:
        _show(plan, standings, columns)
    bar.say(f"tables, plots and {out / 'report.html'} are written")
    return verdict(result.failures)


def _show(plan: "BenchmarkPlan", standings: "Sequence[Standing]", columns: "Sequence[Column]") -> None:
    from rich.console import Console

    from selfseg.benchmark.tables import ORACLE_NOTE, for_terminal
    from selfseg.read.datasets import find_dataset

    found = find_dataset(plan.place.dataset)
    console, wanted = Console(), len(plan.items())
    console.print(f"[bold]{found.name}, {plan.place.split}[/bold]: {wanted} images of {found.title}\n", highlight=False)
    for table in for_terminal(standings, columns, wanted, console.width):
        console.print(table)
        console.print()
    console.print(ORACLE_NOTE, highlight=False, markup=False)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _seeds(text: str) -> tuple[int, ...]:
    seeds = _names(text)
    if not seeds or not all(seed.isdigit() for seed in seeds) or len(set(seeds)) < len(seeds):
        fix = "write for example --seeds 0,1,2"
        raise UsageError("--seeds", expected="different whole numbers by commas", got=repr(text), fix=fix)
    return tuple(int(seed) for seed in seeds)
