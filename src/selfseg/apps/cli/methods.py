"""`selfseg methods`: everything that is printed comes from the methods themselves."""

import inspect
import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfseg.methods.base import Method


@app.command
def methods(name: Annotated[str | None, Parameter(help="One method.")] = None, /) -> None:
    """List the methods; with NAME, every option with its meaning, the presets and the network."""
    _list() if name is None else _show(name)


def _list() -> None:
    """Print one line a method: its name and what it is."""
    from selfseg.methods.base import find_method, method_names

    table = Table("method", "what it is", "presets", box=None, pad_edge=False, header_style="bold")
    for name in method_names():
        method = find_method(name)
        doc = inspect.getdoc(inspect.getmodule(method)) or ""
        table.add_row(name, doc.partition("\n")[0], ", ".join({"default": {}, **method.presets}))
    Console().print(table)


def _show(name: str) -> None:
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
