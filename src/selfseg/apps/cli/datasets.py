"""`selfseg datasets`: what there is, what it is and under which terms, bringing it here, and checking it."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.bar import Bar
from selfseg.core.errors import UsageError
from selfseg.read.datasets import Dataset, count_present, dataset_names, download, find_dataset, verify


def run(name: str | None, data: Path | None, fetch: bool, check: bool, quiet: bool = False) -> int:
    """List the datasets, show one, download it, or verify it; return the exit code.

    Raises
    ------
    UsageError
        If a dataset is to be downloaded or verified and none is named.
    """
    if name is None:
        if fetch or check:
            option = "--download" if fetch else "--verify"
            fix = f"write for example selfseg datasets bsds500 {option}"
            raise UsageError(option, expected="the name of a dataset", got="none", fix=fix)
        _list(data)
        return 0
    dataset = find_dataset(name)
    if not fetch and not check:
        _show(dataset, data)
        return 0
    bar = Bar(quiet)
    if fetch:
        bar.say(f"{dataset.name}: {dataset.licence}. Cite: {dataset.citation}.")
        root = download(dataset, data, bar)
        bar.say(f"{dataset.name}: all {len(dataset.files)} files are in {root}, and verified")
    return _verify(dataset, data, bar) if check else 0


def _list(data: Path | None) -> None:
    table = Table("dataset", "truth", "images", "licence", "here", box=None, pad_edge=False, header_style="bold")
    for name in dataset_names():
        dataset = find_dataset(name)
        table.add_row(name, dataset.task, _counts(dataset), dataset.licence.partition(";")[0], _presence(dataset, data))
    Console(highlight=False).print(table)


def _counts(dataset: Dataset) -> str:
    return ", ".join(f"{split} {count}" for split, count in zip(dataset.splits, dataset.n_images, strict=True))


def _presence(dataset: Dataset, data: Path | None) -> str:
    present, total = count_present(dataset, data), len(dataset.files)
    return "yes" if present == total else f"{present} of {total} files" if present else "no"


def _show(dataset: Dataset, data: Path | None) -> None:
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


def _verify(dataset: Dataset, data: Path | None, bar: Bar) -> int:
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
