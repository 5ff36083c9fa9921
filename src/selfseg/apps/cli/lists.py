"""`selfseg methods` and `datasets`: what is printed comes from the methods and the datasets themselves."""

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.app import Bar, Quiet, app
from selfseg.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfseg.methods.base import Method
    from selfseg.read.datasets import Dataset


@app.command
def methods(name: Annotated[str | None, Parameter(help="One method.")] = None, /) -> None:
    """List the methods; with NAME, every option with its meaning, the presets and the network."""
    _list_methods() if name is None else _show_method(name)


def _list_methods() -> None:
    """Print one line a method: its name and what it is."""
    from selfseg.methods.base import find_method, method_names

    table = Table("method", "what it is", "presets", box=None, pad_edge=False, header_style="bold")
    for name in method_names():
        method = find_method(name)
        doc = inspect.getdoc(inspect.getmodule(method)) or ""
        table.add_row(name, doc.partition("\n")[0], ", ".join({"default": {}, **method.presets}))
    Console().print(table)


def _show_method(name: str) -> None:
    """Print a method's description, options, presets and network."""
    from selfseg.methods.base import find_method

    method = find_method(name)
    console = Console()
    console.print(f"[bold]{name}[/bold]\n{inspect.getdoc(inspect.getmodule(method))}\n", highlight=False)
    console.print(_options(method))
    console.print(_presets(method))
    if method.deviations:
        console.print("[bold]The paper preset differs from the paper in this:[/bold]")
        for phrase in method.deviations:
            console.print(f"  - {phrase}", highlight=False)
        console.print()
    console.print(_network(method) or "No learned network.")


def _options(method: "type[Method]") -> Table:
    table = Table(
        "option", "default", "meaning", title="Options (--set option=value)", title_justify="left", header_style="bold"
    )
    for field, info in method.Config.model_fields.items():
        table.add_row(field, json.dumps(info.get_default(call_default_factory=True)), info.description or "")
    return table


def _presets(method: "type[Method]") -> Table:
    table = Table("preset", "changes", title="Presets (--preset)", title_justify="left", header_style="bold")
    for preset, changes in {"default": {}, **method.presets}.items():
        table.add_row(preset, ", ".join(f"{key}={value}" for key, value in changes.items()) or "nothing")
    return table


def _network(method: "type[Method]") -> Table | None:
    """Run one small image through the method, and list its layers with shapes and parameter counts; None without any."""
    import torch

    from selfseg.results.model import count_parameters

    made = method(method.Config(), 3, 2)
    if not count_parameters(made):
        return None
    title = f"Network, for a 3-channel image of 64 x 64: {count_parameters(made):,} parameters, context {made.context}"
    table = Table("layer", "kind", "output", "parameters", title=title, title_justify="left", header_style="bold")
    shapes: dict[str, str] = {}

    def recorder(path: str) -> "Callable[..., None]":
        return lambda module, inputs, output: shapes.update({path: str(tuple(output.shape))})

    parts = {path: part for path, part in made.named_modules() if path}
    leaves = [path for path, part in parts.items() if not list(part.children())]
    hooks = [parts[path].register_forward_hook(recorder(path)) for path in leaves]
    with torch.no_grad():
        out = made.train().assign(torch.rand(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    for path, shape in shapes.items():
        count = sum(parameter.numel() for parameter in parts[path].parameters())
        table.add_row(path, type(parts[path]).__name__, shape, f"{count:,}")
    for path, part in made.named_modules():
        own = sum(parameter.numel() for parameter in part.parameters(recurse=False))
        if own and path not in shapes:
            table.add_row(path, type(part).__name__, "", f"{own:,}")
    table.add_row("", "assign", str(tuple(out.shape)), "")
    return table


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
    quiet: Quiet = False,
) -> int:
    """List the datasets; with NAME, its terms, citation, splits and layout."""
    from selfseg.read.datasets import download as fetch
    from selfseg.read.datasets import find_dataset

    if name is None:
        if download or verify:
            option = "--download" if download else "--verify"
            fix = f"write for example selfseg datasets bsds500 {option}"
            raise UsageError(option, expected="the name of a dataset", got="none", fix=fix)
        _list_datasets(data)
        return 0
    dataset = find_dataset(name)
    if not download and not verify:
        _show_dataset(dataset, data)
        return 0
    bar = Bar(quiet)
    if download:
        bar.say(f"{dataset.name}: {dataset.licence}. Cite: {dataset.citation}.")
        root = fetch(dataset, data, bar)
        bar.say(f"{dataset.name}: all {len(dataset.files)} files are in {root}, and verified")
    return _verify(dataset, data, bar) if verify else 0


def _list_datasets(data: Path | None) -> None:
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


def _show_dataset(dataset: "Dataset", data: Path | None) -> None:
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


def _verify(dataset: "Dataset", data: Path | None, bar: Bar) -> int:
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
