"""`selfseg datasets`: list, describe, download and verify datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.app import Report, Reporter, app, reporter
from selfseg.core.errors import UsageError

if TYPE_CHECKING:
    from selfseg.read.datasets import Dataset


@app.command
def datasets(
    name: Annotated[str | None, Parameter(help="One dataset.")] = None,
    /,
    *,
    data: Annotated[
        Path | None, Parameter(name=["--data", "--out", "-o"], help="Data folder. Default: this user's cache.")
    ] = None,
    download: Annotated[bool, Parameter(help="Bring the files here, and verify them.")] = False,
    verify: Annotated[bool, Parameter(help="Name each file that is missing or differs.")] = False,
    report: Report = None,
) -> int:
    """List the datasets; with NAME, its terms, citation, splits and layout."""
    from selfseg.read.datasets import download as fetch
    from selfseg.read.datasets import find_dataset

    if name is None:
        if download or verify:
            option = "--download" if download else "--verify"
            raise UsageError(
                option,
                expected="the name of a dataset",
                got="none",
                fix=f"write for example selfseg datasets bsds500 {option}",
            )
        _list(data)
        return 0
    dataset = find_dataset(name)
    if not download and not verify:
        _show(dataset, data)
        return 0
    bar = reporter(report)
    if download:
        bar.say(f"{dataset.name}: {dataset.licence}. Cite: {dataset.citation}.")
        root = fetch(dataset, data, bar)
        bar.say(f"{dataset.name}: all {len(dataset.files)} files are in {root}, and verified")
    return _verify(dataset, data, bar) if verify else 0


def _list(data: Path | None) -> None:
    from selfseg.read.datasets import dataset_names, find_dataset

    table = Table("dataset", "truth", "images", "licence", "here", box=None, pad_edge=False, header_style="bold")
    for name in dataset_names():
        dataset = find_dataset(name)
        table.add_row(name, dataset.task, _counts(dataset), dataset.licence.partition(";")[0], _presence(dataset, data))
    Console(highlight=False).print(table)


def _counts(dataset: "Dataset") -> str:
    return ", ".join(f"{split} {count}" for split, count in zip(dataset.splits, dataset.n_images, strict=True))


def _presence(dataset: "Dataset", data: Path | None) -> str:
    from selfseg.read.datasets import count_present

    present, total = count_present(dataset, data), len(dataset.files)
    return "yes" if present == total else f"{present} of {total} files" if present else "no"


def _show(dataset: "Dataset", data: Path | None) -> None:
    facts = {
        "truth": dataset.task,
        "axes": dataset.axes,
        "splits": f"{_counts(dataset)} (default {dataset.default_split}); {dataset.split_rule}",
        "licence": dataset.licence,
        "cite": dataset.citation,
        "from": dataset.homepage,
        "folder": dataset.layout,
        "here": f"{_presence(dataset, data)}, in {dataset.root(data)}",
    }
    console = Console(highlight=False)
    console.print(f"[bold]{dataset.name}[/bold]: {dataset.title}", soft_wrap=True)
    for fact, text in facts.items():
        console.print(f"  {fact:8}{text}", markup=False, soft_wrap=True)


def _verify(dataset: "Dataset", data: Path | None, bar: Reporter) -> int:
    from selfseg.read.datasets import verify

    faults = verify(dataset, data, bar)
    console = Console(highlight=False)
    for fault in faults:
        console.print(f"{fault.what}: {fault.path}", markup=False, soft_wrap=True)
    total = len(dataset.files)
    verdict = (
        f"{total - len(faults)} of {total} files are as they should be" if faults else f"all {total} files are whole"
    )
    bar.say(f"{dataset.name}: {verdict}")
    return 1 if faults else 0
