"""`selfseg doctor`, `demo` and `studio`: is this machine ready, a first example, and the page in the browser."""

import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from selfseg.apps.cli.app import Bar, Out, Quiet, app


@app.command
def doctor() -> int:
    """Check this installation: versions, device, speed, memory, folders, a tiny training run."""
    console = Console(highlight=False)
    checks = (_python, _packages, _device, _memory, _folders, _training, _kernels)
    bad = 0
    for check in checks:
        try:
            good, line = check()
        except Exception as error:  # noqa: BLE001 (a doctor reports whatever is wrong)
            good, line = False, f"{check.__name__.strip('_')}: {type(error).__name__}: {error}"
        bad += not good
        console.print(f"{'[green]ok  [/green]' if good else '[red]BAD [/red]'} {line}", soft_wrap=True)
    console.print("all is well" if not bad else f"{bad} check(s) failed")
    return 1 if bad else 0


def _python() -> tuple[bool, str]:
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    hint = "" if good else ": 3.11 to 3.13 is needed"
    return good, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}{hint}"


def _packages() -> tuple[bool, str]:
    wanted = [re.split(r"[^\w.-]", line)[0] for line in requires("selfseg") or () if "extra" not in line]
    found, missing = [], []
    for name in wanted:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    hint = f"; missing: {', '.join(missing)}: pip install {' '.join(missing)}" if missing else ""
    return not missing, ", ".join(found) + hint


def _device() -> tuple[bool, str]:
    from selfseg.core.machine import n_threads
    from selfseg.train.precision import choose_device, has_fast_bf16

    device = choose_device()
    precision = "float32, bfloat16 on request" if has_fast_bf16(device) else "float32"
    return True, f"works on {device}, {precision}, with {n_threads()} threads for kernels"


def _memory() -> tuple[bool, str]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    hint = "" if free > 1 else ": at least 1 is needed; close other programs"
    return free > 1, f"{free:.1f} GiB of memory free{hint}"


def _folders() -> tuple[bool, str]:
    from selfseg.read.datasets._base import cache_folder

    lines, faults = [], False
    for use, folder in {
        "OUT": Path.cwd(),
        "temporary files": Path(tempfile.gettempdir()),
        "data": cache_folder(),
    }.items():
        there = next(place for place in (folder, *folder.parents) if place.exists())  # it is made when it is needed
        free = shutil.disk_usage(there).free / 2**30
        fault = "not writable" if not os.access(there, os.W_OK) else "make some room" if free < 0.5 else ""
        lines.append(f"{use}: {free:.1f} GiB free in {folder}{fault and ': ' + fault}")
        faults |= bool(fault)
    return not faults, "; ".join(lines)


def _training() -> tuple[bool, str]:
    import numpy as np

    from selfseg.core.image import Image
    from selfseg.learning.segmenter import Segmenter

    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:, 32:] = 200
    begun = time.monotonic()
    options = {"iterations": 20, "n_features": 16, "n_clusters": 16}
    model = Segmenter("feature_clustering", n_classes=2, options=options).fit(picture)
    labels = model.predict_image(Image(picture, "YXC")).labels
    seconds = time.monotonic() - begun
    good = {int(labels[24, 5]), int(labels[24, 60])} == {1, 2}
    return good, f"learned two tones from a test picture in {seconds:.1f} s (compilation of kernels included)"


def _kernels() -> tuple[bool, str]:
    """Check the folders in which numba keeps the kernels that the training run compiled."""
    from numba.core.dispatcher import Dispatcher

    modules = [module for name, module in sys.modules.items() if name.startswith("selfseg.")]
    kernels = [value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)]
    folders = {kernel.stats.cache_path for kernel in kernels if kernel.stats.cache_path}
    closed = sorted(folder for folder in folders if not os.access(folder, os.W_OK))
    if closed or not folders:
        where = ", ".join(closed) or "nowhere"
        return False, f"compiled kernels cannot be kept in {where}: set NUMBA_CACHE_DIR to a writable folder"
    return True, f"compiled kernels are kept in {len(folders)} folder(s) such as {min(folders)}"


PHOTO = "coffee.png"


@app.command
def demo(*, out: Out = Path("demo-out"), quiet: Quiet = False) -> int:
    """Segment a real photograph that comes with scikit-image, and say where the pictures are."""
    import skimage.data

    from selfseg.learning.run import predict
    from selfseg.learning.segmenter import Segmenter

    photo = Path(skimage.data.__file__).parent / PHOTO
    console = Console(quiet=quiet, highlight=False)
    for method, what in (
        ("region_merging", "no learning, the instant preview"),
        ("feature_clustering", "features learned from this one photo"),
    ):
        folder = out / method
        console.print(f"[bold]{method}[/bold]: {what}")
        begun = time.monotonic()
        model = Segmenter(method, seed=0)
        model.fit(photo, out=folder / "model", overwrite=True, progress=Bar(quiet))
        predict(model, photo, folder, progress=Bar(quiet))
        console.print(f"  {len(model.table_)} classes in {time.monotonic() - begun:.1f} s")
        files = {"picture": f"overlay/{photo.stem}.png", "labels": f"labels/{photo.stem}.tif", "report": "report.html"}
        for kind, file in files.items():
            console.print(f"  {kind:9}{folder / file}", soft_wrap=True)
    console.print(f"Your own pictures: selfseg segment PICTURES -o OUT    (photo: {PHOTO} of scikit-image)")
    return 0


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
