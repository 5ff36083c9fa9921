"""The commands that show what there is: methods, datasets, doctor, demo. Heavy imports happen inside them, so that help answers at once."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.parameters import Out, Quiet, app


@app.command
def methods(name: str | None = None, /) -> None:
    """List the methods; with NAME, every option with its meaning, the presets and the network.

    Parameters
    ----------
    name
        One method.
    """
    from selfseg.apps.cli.show import show_method, show_methods

    show_methods() if name is None else show_method(name)


@app.command
def datasets(
    name: str | None = None,
    /,
    *,
    data: Annotated[
        Path | None, Parameter(name=["--data", "--out", "-o"], help="Data folder; without it, this user's cache.")
    ] = None,
    download: Annotated[bool, Parameter(negative="", help="Bring the files here, and verify them.")] = False,
    verify: Annotated[bool, Parameter(negative="", help="Name each file that is missing or differs.")] = False,
    quiet: Quiet = False,
) -> int:
    """List the datasets; with NAME, its terms, citation, splits and layout.

    Parameters
    ----------
    name
        One dataset.
    """
    from selfseg.apps.cli.datasets import run

    return run(name, data, download, verify, quiet)


@app.command
def doctor() -> int:
    """Check this installation: versions, device, speed, memory, a tiny training run."""
    from selfseg.apps.cli.doctor import examine

    return examine()


@app.command
def demo(*, out: Out = Path("demo-out"), quiet: Quiet = False) -> int:
    """Segment a real photograph that comes with scikit-image, and say where the pictures are."""
    from selfseg.apps.cli.demo import run_demo

    return run_demo(out, quiet)
