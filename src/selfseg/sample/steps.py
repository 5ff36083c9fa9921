"""The names, values and meanings of the preparation steps, and their spelling: ``rescale=0.33,unsharp=5:1``."""

import math
from dataclasses import dataclass

from selfseg.core.errors import UsageError
from selfseg.core.steps import Bounds

IMAGE, GLOBAL = "image", "global"
CHANGING_SIZE = ("rescale", "size", "border", "multiple")
NORMALISING = ("range", "minmax", "max", "percentile", "zscore", "robust")
"""Steps after which the values are fit for a network; `range` is added where none is named."""


FACTOR = Bounds(0, 16, closed=False)
POSITIVE = Bounds(0, 1000, closed=False)
PIXELS = Bounds(0, whole=True)
COUNT = Bounds(1, whole=True)
ANY = Bounds(-math.inf)


@dataclass(frozen=True)
class StepKind:
    """What a step takes.

    Attributes
    ----------
    usage, meaning
        Its spelling, and what it does, for messages.
    counts
        How many values it takes, at least and at most.
    bounds
        Of each value, by position; further values are as the last.
    defaults
        Values of the last positions, where they are left out.
    takes_scope
        Whether ``:global`` may follow.
    """

    usage: str
    meaning: str
    counts: tuple[int, int] = (0, 0)
    bounds: tuple[Bounds, ...] = ()
    defaults: tuple[float, ...] = ()
    takes_scope: bool = False


KINDS: dict[str, StepKind] = {
    "rescale": StepKind(
        "rescale=F or F:F", "change the size by a factor, smoothed against aliasing", (1, 3), (FACTOR,)
    ),
    "size": StepKind("size=N", "shrink until the longest side has at most N pixels", (1, 1), (COUNT,)),
    "border": StepKind("border=N or N:N", "cut N pixels off each side", (1, 3), (PIXELS,)),
    "multiple": StepKind("multiple=N or N:N", "cut about the centre to sides that N divides", (1, 3), (COUNT,)),
    "foreground": StepKind(
        "foreground=T",
        "leave out pixels whose brightest channel is not above T, here and in all that follows",
        (1, 1),
        (ANY,),
    ),
    "clahe": StepKind(
        "clahe=CLIP:TILES",
        "equalise the contrast locally, limited by CLIP 0-1, in TILES tiles a side",
        (2, 2),
        (Bounds(0, 1, closed=False), COUNT),
        (8.0,),
    ),
    "unsharp": StepKind("unsharp=RADIUS:AMOUNT", "sharpen, RADIUS in pixels", (2, 2), (POSITIVE, POSITIVE), (1.0,)),
    "range": StepKind("range", "divide integers by the largest value of their type"),
    "minmax": StepKind("minmax", "map the extremes of each channel to 0 and 1", takes_scope=True),
    "max": StepKind("max", "divide each channel by its largest absolute value", takes_scope=True),
    "percentile": StepKind(
        "percentile=LO:HI",
        "map two percentiles of each channel to 0 and 1, and clip",
        (2, 2),
        (Bounds(0, 100), Bounds(0, 100)),
        (1.0, 99.8),
        takes_scope=True,
    ),
    "zscore": StepKind("zscore", "mean 0 and standard deviation 1 in each channel", takes_scope=True),
    "robust": StepKind("robust", "median 0 and 1.4826 median absolute deviations 1 in each channel", takes_scope=True),
}


@dataclass(frozen=True)
class Step:
    """One step with its values; `scope` tells whether its statistics are of each image or of all training images."""

    name: str
    values: tuple[float, ...] = ()
    scope: str = IMAGE

    def __str__(self) -> str:
        values = [repr(value).removesuffix(".0") for value in self.values] + [GLOBAL] * (self.scope == GLOBAL)
        return f"{self.name}={':'.join(values)}" if values else self.name


def list_steps() -> str:
    """Return every step with its meaning, in one line."""
    known = "; ".join(f"{kind.usage} ({kind.meaning})" for kind in KINDS.values())
    return f"steps: {known}; minmax, max, percentile, zscore and robust take :global for statistics over all training images"


def parse_steps(text: str) -> tuple[Step, ...]:
    """Parse steps out of ``"name=value:value,name"``, and add `range` at the end where no step normalises.

    Raises
    ------
    UsageError
        If a step is unknown, a value is wrong, or two steps are global.
    """
    steps = tuple(_parse_step(part.strip()) for part in text.split(",") if part.strip())
    if sum(step.scope == GLOBAL for step in steps) > 1:
        fix = "let the others be of each image"
        raise UsageError(f"preparation {text!r}", expected="at most one :global step", got="several", fix=fix)
    if not any(step.name in NORMALISING for step in steps):
        steps += (Step("range"),)
    return steps


def _parse_step(text: str) -> Step:
    name, _, rest = text.partition("=")
    name, _, scope_only = name.partition(":") if not rest else (name, "", "")
    name = name.strip().lower()
    kind = KINDS.get(name)
    if kind is None:
        raise UsageError(f"preparation step {name!r}", expected="a known step", got=text, fix=list_steps())
    words = [word.strip() for word in (rest or scope_only).split(":") if word.strip()]
    scope = IMAGE
    if words and words[-1].lower() in (IMAGE, GLOBAL) and kind.takes_scope:
        scope = words.pop().lower()
    values = tuple(_number(text, kind, i, word) for i, word in enumerate(words))
    fewest, most = kind.counts
    left_out = most - len(values)
    if fewest == most and 0 < left_out <= len(kind.defaults):
        values += kind.defaults[-left_out:]
    if not fewest <= len(values) <= most:
        raise _wrong(text, kind, f"{len(values)} values")
    if name == "percentile" and values[0] >= values[1]:
        raise _wrong(text, kind, "percentiles that do not rise")
    return Step(name, values, scope)


def _number(text: str, kind: StepKind, position: int, word: str) -> float:
    if not kind.bounds:
        raise _wrong(text, kind, f"the value {word!r}")
    bounds = kind.bounds[min(position, len(kind.bounds) - 1)]
    try:
        value = float(word)
    except ValueError:
        raise _wrong(text, kind, repr(word)) from None
    if not bounds.allow(value):
        raise _wrong(text, kind, f"{word} for {bounds}")
    return value


def _wrong(text: str, kind: StepKind, got: str) -> UsageError:
    return UsageError(f"preparation step {text!r}", expected=kind.usage, got=got, fix=f"it is to {kind.meaning}")
