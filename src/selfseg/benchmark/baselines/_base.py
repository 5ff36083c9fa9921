"""What a baseline is, and how it is found: a file of this folder with a function `segment`."""

import importlib
import pkgutil
from typing import Protocol, cast

from selfseg.benchmark.outcome import Outcome
from selfseg.core.errors import UsageError
from selfseg.core.image import Image

PACKAGE = "selfseg.benchmark.baselines"


class Baseline(Protocol):
    """A module. The first line of its docstring says what it is and is shown in tables.

    A module whose labels are a background, 1, and one object each from 2 on says so with ``INSTANCES = True``.
    """

    __doc__: str | None

    def segment(self, image: Image, n_classes: int | None, seed: int) -> Outcome:
        """Segment one image.

        Parameters
        ----------
        image
            Axes YX or YXC, and ZYX or ZYXC where the baseline takes volumes; any type and number of channels.
        n_classes
            Number of classes wanted. Fewer come only where the image has not so many different pixels. A baseline that
            cannot choose the number ignores it and says why. None = the baseline's own, fixed beforehand.
        seed
            Seed of every random choice.

        Raises
        ------
        InputError
            If the image has an axis that the baseline cannot take, or no valid pixel.
        UsageError
            If `n_classes` is below 1.
        """
        ...


def baseline_names() -> list[str]:
    """Return the names of all baselines, in alphabetical order."""
    package = importlib.import_module(PACKAGE)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def find_baseline(name: str) -> Baseline:
    """Return the baseline called `name`.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in baseline_names():
        known = ", ".join(baseline_names())
        raise UsageError("baseline", expected=f"one of {known}", got=repr(name), fix="check the name")
    return cast(Baseline, importlib.import_module(f"{PACKAGE}.{name}"))
