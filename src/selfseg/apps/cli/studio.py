"""`selfseg studio`: the page in the browser. The studio is found by its name, since apps do not import each other."""

import importlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import app

STUDIO = "selfseg.apps.studio.launch"


@app.command
def studio(
    *inputs: Annotated[
        str, Parameter(help="Images, folders, globs, a model folder, or a project folder of the studio.")
    ],
    project: Annotated[
        Path | None, Parameter(help="Folder that keeps everything; Default: NAME.studio beside the first input.")
    ] = None,
    port: Annotated[int | None, Parameter(help="Port. Default: the first free one from 8770.")] = None,
    host: Annotated[
        str, Parameter(help="Address to bind to. Another than 127.0.0.1 lets other machines in, who need the token.")
    ] = "127.0.0.1",
    allow: Annotated[
        list[Path] | None, Parameter(help="A further folder that the page may read pictures from.")
    ] = None,
    axes: Annotated[str | None, Parameter(help="Axes of the inputs, such as YXC, where files do not say.")] = None,
    browser: Annotated[bool, Parameter(negative="--no-browser", help="Open the page in the browser.")] = True,
) -> int:
    """Look, slide, merge, name and export in the browser, on this machine."""
    launch = importlib.import_module(STUDIO).launch
    return int(launch(inputs, project=project, port=port, host=host, allow=allow or (), axes=axes, browser=browser))
