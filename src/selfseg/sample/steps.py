"""The preparation steps, their parameters and their spelling: ``rescale(0.33), percentile(low=1, high=99.8)``."""

import math
from dataclasses import dataclass

from selfseg.core.errors import UsageError
from selfseg.core.steps import Bounds, Parameter, StepKind, parse_calls, spell_number

IMAGE, GLOBAL = "image", "global"
CHANGING_SIZE = ("rescale", "size", "border", "multiple")
NORMALISING = ("auto", "range", "minmax", "max", "percentile", "zscore", "robust")
"""Steps after which the values are fit for a network; `auto` is added where none is named, `range` after `clahe`."""

POSITIVE, COUNT = Bounds(0, 1000, closed=False), Bounds(1, whole=True)
_OF_WHICH = "statistics of each image, or of all training images"
SCOPE = Parameter("scope", (IMAGE, GLOBAL), IMAGE, _OF_WHICH)
BRIGHT, DARK = "bright", "dark"
SIDE = Parameter("size", Bounds(2, 10000), None, "pixels of the axis of finest spacing")

_KINDS = (
    StepKind(
        "rescale",
        "change the size by a factor, smoothed against aliasing",
        (Parameter("factor", Bounds(0, 16, closed=False), repeats=3),),
    ),
    StepKind("size", "shrink until the longest side has at most N pixels", (Parameter("pixels", COUNT),)),
    StepKind("border", "cut pixels off each side", (Parameter("pixels", Bounds(0, whole=True), repeats=3),)),
    StepKind("multiple", "cut about the centre to sides that it divides", (Parameter("pixels", COUNT, repeats=3),)),
    StepKind(
        "foreground",
        "leave out pixels whose brightest channel is not above a threshold, here and in all that follows",
        (Parameter("threshold", Bounds(-math.inf)),),
    ),
    StepKind(
        "clahe",
        "equalise the contrast locally, limited by clip 0-1, in N tiles a side",
        (Parameter("clip", Bounds(0, 1, closed=False)), Parameter("tiles", COUNT, 8.0)),
    ),
    StepKind("unsharp", "sharpen", (Parameter("radius", POSITIVE, None, "pixels"), Parameter("amount", POSITIVE, 1.0))),
    StepKind(
        "auto",
        "divide 8-bit values by 255; map robust limits of deeper integers and floats to 0 and 1, and clip",
        (Parameter("scope", (IMAGE, GLOBAL), GLOBAL, _OF_WHICH),),
    ),
    StepKind(
        "smooth",
        "blur with a Gaussian, over valid pixels only",
        (Parameter("sigma", POSITIVE, None, "its standard deviation in pixels of the axis of finest spacing"),),
    ),
    StepKind(
        "tophat",
        "keep only things narrower than size, as heights above their surroundings",
        (SIDE, Parameter("polarity", (BRIGHT, DARK), BRIGHT, "bright things, or dark ones")),
    ),
    StepKind("flatten", "even out light that changes over more than size pixels, by division", (SIDE,)),
    StepKind("range", "divide integers by the largest value of their type"),
    StepKind("minmax", "map the extremes of each channel to 0 and 1", (SCOPE,)),
    StepKind("max", "divide each channel by its largest absolute value", (SCOPE,)),
    StepKind(
        "percentile",
        "map two percentiles of each channel to 0 and 1, and clip",
        (Parameter("low", Bounds(0, 100), 1.0), Parameter("high", Bounds(0, 100), 99.8), SCOPE),
    ),
    StepKind("zscore", "mean 0 and standard deviation 1 in each channel", (SCOPE,)),
    StepKind("robust", "median 0 and 1.4826 median absolute deviations 1 in each channel", (SCOPE,)),
)
KINDS = {kind.name: kind for kind in _KINDS}


@dataclass(frozen=True)
class Step:
    """One step with its values."""

    name: str
    values: tuple[float, ...] = ()
    scope: str = IMAGE
    """Statistics of each image, or of all training images."""
    polarity: str = BRIGHT
    """The things that are kept."""

    def __str__(self) -> str:
        usual = KINDS[self.name].defaults.get("scope", IMAGE)
        words = [self.scope] * (self.scope != usual) + [DARK] * (self.polarity == DARK)
        values = [spell_number(value) for value in self.values] + words
        return f"{self.name}={':'.join(values)}" if values else self.name


def parse_steps(text: str) -> tuple[Step, ...]:
    """Parse steps (grammar: `selfseg.core.steps`), and add `auto` at the end where no step normalises.

    Raise `UsageError` if a step is unknown, a value is wrong, or two steps are global.

    Examples
    --------
    >>> from selfseg.sample.steps import parse_steps
    >>> [step.name for step in parse_steps("rescale=0.5,clahe=0.01")]
    ['rescale', 'clahe', 'range']
    """
    steps: tuple[Step, ...] = ()
    for call in parse_calls(text, KINDS, "preparation step"):
        values: list[float] = []
        for parameter in KINDS[call.name].parameters:
            value = call.values[parameter.name]
            if not isinstance(value, str):
                values.extend(value if isinstance(value, tuple) else [value])
        words = {name: str(call.values[name]) for name in ("scope", "polarity") if name in call.values}
        steps += (Step(call.name, tuple(values), **words),)
        if call.name == "percentile" and values[0] >= values[1]:
            fix = f"write for example {KINDS[call.name].usage}"
            got = str(steps[-1])
            raise UsageError(f"preparation step {got!r}", expected="percentiles that rise", got=got, fix=fix)
    if sum(step.scope == GLOBAL for step in steps) > 1:
        raise UsageError(
            f"preparation {text!r}",
            expected="at most one global step",
            got="several",
            fix="let the others be of each image",
        )
    if not any(step.name in NORMALISING for step in steps):
        known = any(step.name == "clahe" for step in steps)
        steps += (Step("range") if known else Step("auto", scope=GLOBAL),)
    return steps
