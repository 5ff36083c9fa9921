"""What is compared: methods of selfseg, by name and preset, and the classical baselines."""

import inspect
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfseg.benchmark.baselines._base import Outcome, baseline_names, find_baseline
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import build_config, find_method, method_names
from selfseg.refine.steps import parse_refinements


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    """A method or a baseline."""
    preset: str = ""
    """Preset of a method; empty for a baseline."""
    refine: str = ""
    """Refinements of a method's output, such as ``crf`` or ``crf+contours``; empty = none."""

    @property
    def title(self) -> str:
        """The name in tables and folders: ``feature_clustering``, ``feature_clustering-fast``, ``felzenszwalb``."""
        name = self.name if self.preset in ("", "default") else f"{self.name}-{self.preset}"
        return f"{name}+{self.refine}" if self.refine else name

    @property
    def unrefined(self) -> "Contender":
        """The same without refinement: what is learned does not depend on it."""
        return Contender(self.name, self.preset)

    @property
    def is_method(self) -> bool:
        """Whether it is a method of selfseg rather than a baseline."""
        return bool(self.preset)

    @property
    def gives_instances(self) -> bool:
        """Whether its labels are single objects (1 = background) rather than classes."""
        return not self.is_method and bool(getattr(find_baseline(self.name), "INSTANCES", False))

    def settings(self) -> dict[str, Any]:
        """Return every option with its value; rows made with other settings are made again."""
        if not self.is_method:
            return {}
        settings: dict[str, Any] = build_config(self.name, self.preset).model_dump(mode="json")
        return settings

    def describe(self) -> str:
        """Return the first line of its documentation."""
        found = inspect.getmodule(find_method(self.name)) if self.is_method else find_baseline(self.name)
        return (inspect.getdoc(found) or "").partition("\n")[0]

    def model(self, n_classes: int | None, seed: int) -> Segmenter:
        """Return the unfitted model of a method."""
        steps = self.refine.replace("+", ",") or None
        return Segmenter(self.name, n_classes=n_classes, preset=self.preset, seed=seed, refine=steps)

    def run(self, image: Image, n_classes: int | None, seed: int, model: Path | None = None) -> tuple[Outcome, float]:
        """Segment one image.

        Parameters
        ----------
        image
            The image.
        n_classes
            Exact number of classes; None = as many as it finds.
        seed
            Seed of every random choice.
        model
            Folder of a fitted model; None = learn from this image alone.

        Returns
        -------
        outcome, seconds
            Without the time that other scales took: it is that of the one output.
        """
        begun = time.perf_counter()
        if not self.is_method:
            outcome: Outcome = find_baseline(self.name).segment(image, n_classes, seed)
            return outcome, time.perf_counter() - begun
        fitted = self.model(n_classes, seed)
        if model is None:
            fitted.fit(image)
        else:
            fitted = Segmenter.load(model).set_params(refine=fitted.refine)
        result = fitted.predict_image(image)
        seconds = time.perf_counter() - begun
        return Outcome(result.labels, hierarchy=result.hierarchy), seconds


def find_contenders(methods: list[str], baselines: bool | list[str] = True) -> list[Contender]:
    """Return the contenders of a benchmark, methods first.

    Parameters
    ----------
    methods
        ``NAME``, ``NAME:PRESET``, and either with ``+crf``, ``+contours`` or ``+crf+contours``: the same with its output refined.
    baselines
        True = all, False = none, or names.

    Raises
    ------
    UsageError
        If a name or a preset is unknown.
    """
    found = []
    for item in methods:
        unrefined, _, refine = item.partition("+")
        name, _, preset = unrefined.partition(":")
        if name not in method_names():
            fix = "see `selfseg methods`; baselines are chosen with --baselines"
            raise UsageError("--methods", expected=", ".join(method_names()), got=repr(name), fix=fix)
        build_config(name, preset or "default")
        parse_refinements(refine.replace("+", ",") or None)
        found.append(Contender(name, preset or "default", refine))
    names = baseline_names() if baselines is True else list(baselines or [])
    for name in names:
        if name not in baseline_names():
            raise UsageError("--baselines", expected=", ".join(baseline_names()), got=repr(name), fix="check the name")
        found.append(Contender(name))
    if len(set(found)) < len(found):
        raise UsageError("--methods", expected="each name once", got=", ".join(methods), fix="drop one")
    return found
