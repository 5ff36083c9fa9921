"""The grammar of steps, ``name(key=value, ...)`` with commas between steps, shared by `--prepare`, `--refine` and `--clean`.

A value is a number or a word; a parameter that repeats takes several numbers joined by colons, one an axis. Values without a key
go to the parameters in their order, a word to the first parameter that takes words: ``percentile(1, 99.8, global)``.
Older spellings give the same steps: ``percentile=1:99.8:global``, ``minmax:global``, ``objects:200``, and
``crf=weight:10,colour:0.05``, where ``key:value`` belongs to the step before it.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from selfseg.core.errors import UsageError

Value = float | str | tuple[float, ...]

NONE = "none"
"""Spelling of no step at all."""

_STEP = re.compile(r"\s*([^=:()]*?)\s*(?:\(([^()]*)\)|[=:]([^()]*))?\s*")


@dataclass(frozen=True)
class Bounds:
    """The numbers that a value may be: `low` to `high`, `low` itself if `closed`, whole numbers only if `whole`."""

    low: float
    high: float = math.inf
    whole: bool = False
    closed: bool = True

    def __str__(self) -> str:
        kind = "whole numbers" if self.whole else "numbers"
        if not math.isfinite(self.low):
            return kind
        upper = f" up to {self.high:g}" if math.isfinite(self.high) else ""
        return f"{kind} {'from' if self.closed else 'above'} {self.low:g}{upper}"

    def allow(self, value: float) -> bool:
        """Return whether a value is within the bounds."""
        above = value >= self.low if self.closed else value > self.low
        return math.isfinite(value) and above and value <= self.high and (not self.whole or value == int(value))


@dataclass(frozen=True)
class Parameter:
    """A value that a step takes."""

    name: str
    """Its key."""
    allowed: Bounds | tuple[str, ...]
    """Bounds of a number, or the words that are possible."""
    default: float | str | None = None
    """Value where none is given; None = it must be given."""
    meaning: str = ""
    """For messages."""
    repeats: int = 1
    """Most numbers that it takes; above 1, its value is a tuple."""

    @property
    def usage(self) -> str:
        """Its spelling: ``name``, ``name=default`` or ``name:name``."""
        if self.default is None:
            return ":".join([self.name] * min(2, self.repeats))
        return (
            f"{self.name}={self.default:g}" if isinstance(self.default, float | int) else f"{self.name}={self.default}"
        )

    @property
    def expected(self) -> str:
        """Description of the values that it may have."""
        return str(self.allowed) if isinstance(self.allowed, Bounds) else " or ".join(self.allowed)

    def read(self, word: str) -> float | str | None:
        """Return the value that a word stands for; None = it is not allowed."""
        if not isinstance(self.allowed, Bounds):
            return word.lower() if word.lower() in self.allowed else None
        value = _number(word)
        return value if value is not None and self.allowed.allow(value) else None


@dataclass(frozen=True)
class StepKind:
    """Name, meaning and parameters of one kind of step."""

    name: str
    meaning: str
    parameters: tuple[Parameter, ...] = ()

    @property
    def usage(self) -> str:
        """Its spelling with all parameters: ``percentile(low=1, high=99.8, scope=image)``."""
        return f"{self.name}({', '.join(p.usage for p in self.parameters)})" if self.parameters else self.name

    @property
    def defaults(self) -> dict[str, Value]:
        """Values of the parameters that need not be given."""
        return {p.name: p.default for p in self.parameters if p.default is not None}

    def find(self, key: str) -> Parameter | None:
        """Return the parameter of a key."""
        return next((p for p in self.parameters if p.name == key.strip().lower()), None)


@dataclass(frozen=True)
class Call:
    """One step as it was written."""

    name: str
    """A key of the kinds that were given to `parse_calls`."""
    given: dict[str, Value]
    """The values that were written, by name of parameter, in their order. A tuple where the parameter repeats."""
    values: dict[str, Value]
    """The same and the defaults of the others."""

    def number(self, name: str) -> float:
        """Return the value of a parameter that takes one number."""
        value = self.values[name]
        if not isinstance(value, int | float):
            raise TypeError(f"{self.name}: {name} is {value!r}")
        return float(value)


@dataclass
class _Written:
    """A step of a text: its arguments are pairs of a key ("" = none) and words joined by colons."""

    text: str
    kind: StepKind
    arguments: list[tuple[str, str]] = field(default_factory=list)


def parse_calls(text: str | None, kinds: Mapping[str, StepKind], what: str) -> list[Call]:
    """Parse steps; None, an empty text and ``none`` give no step.

    Parameters
    ----------
    text
        ``"name(value, key=value), name"``, or an older spelling (see the module).
    kinds
        The kinds of step there are, by name.
    what
        Name of such a step for messages: "refinement".

    Raises
    ------
    UsageError
        If a name, a key or a value is wrong. The line names the step, the nearest known one, and what it takes.
    """
    written: list[_Written] = []
    for part in re.findall(r"(?:[^,()]|\([^()]*\)|[()])+", text or ""):
        match = _STEP.fullmatch(part)
        if match is None:
            raise UsageError(
                f"{what} {part.strip()!r}",
                expected="pairs of parentheses",
                got=repr(text),
                fix="write name(key=value, key=value), name",
            )
        name, inside, rest = match[1].lower(), match[2], match[3]
        if not name or (name == NONE and inside is None and rest is None):
            continue
        if name in kinds:
            kind = kinds[name]
            items = [rest] if inside is None and rest is not None else (inside or "").split(",")
            written.append(_Written(part.strip(), kind, [_argument(item, kind) for item in items]))
        elif rest is not None and written and written[-1].kind.find(name):
            written[-1].text += f",{part.strip()}"
            written[-1].arguments.append((name, rest))
        else:
            raise _unknown(f"{what} {name!r}", name, kinds)
    return [_bound(step, f"{what} {step.text!r}") for step in written]


def describe_steps(kinds: Mapping[str, StepKind]) -> str:
    """Return every kind of step with its parameters and its meaning, in one line."""
    return "; ".join(f"{kind.usage} ({kind.meaning})" for kind in kinds.values())


def spell_number(value: float) -> str:
    """Return the shortest text that reads as this number again, without ``.0``."""
    return repr(float(value)).removesuffix(".0")


def _argument(item: str, kind: StepKind) -> tuple[str, str]:
    """Return key and words of ``key=words``, ``key:word`` with a known key, or ``words``."""
    key, sign, words = item.partition("=")
    if sign:
        return key.strip().lower(), words
    key, sign, words = item.partition(":")
    return (key.strip().lower(), words) if sign and kind.find(key) else ("", item)


def _bound(step: _Written, source: str) -> Call:
    """Give the arguments to the parameters, and check them."""
    kind = step.kind
    found: dict[str, list[float | str]] = {}
    for key, words in step.arguments:
        if key and key in found:
            raise UsageError(source, expected=f"{key} once", got="it twice", fix=f"{kind.usage}: {kind.meaning}")
        for word in filter(None, map(str.strip, words.split(":"))):
            parameter = kind.find(key) if key else _first_free(kind, found, word)
            if parameter is None or len(found.get(parameter.name, ())) >= parameter.repeats:
                raise UsageError(
                    source,
                    expected=kind.usage,
                    got=f"the value {word!r}" if parameter or not key else f"{key}={word}",
                    fix=_advice(kind, key),
                )
            value = parameter.read(word)
            if value is None:
                about = f" ({parameter.meaning})" if parameter.meaning else ""
                raise UsageError(
                    source,
                    expected=f"{parameter.name}{about} of {parameter.expected}",
                    got=repr(word),
                    fix=f"{kind.usage}: {kind.meaning}",
                )
            found.setdefault(parameter.name, []).append(value)
    missing = next((p.name for p in kind.parameters if p.default is None and p.name not in found), None)
    if missing:
        raise UsageError(source, expected=kind.usage, got=f"no {missing}", fix=f"it is to {kind.meaning}")
    given = {name: _joined(kind.find(name), values) for name, values in found.items()}
    return Call(kind.name, given, kind.defaults | given)


def _first_free(kind: StepKind, found: Mapping[str, list[float | str]], word: str) -> Parameter | None:
    """Return the first parameter of a kind that can still take a value without a key."""
    free = [p for p in kind.parameters if len(found.get(p.name, ())) < p.repeats]
    fitting = [p for p in free if isinstance(p.allowed, Bounds) == (_number(word) is not None)]
    return next(iter(fitting or free), None)


def _joined(parameter: Parameter | None, values: list[float | str]) -> Value:
    if parameter is None or parameter.repeats == 1:
        return values[0]
    return tuple(float(value) for value in values)


def _advice(kind: StepKind, key: str) -> str:
    near = difflib.get_close_matches(key, [p.name for p in kind.parameters], 1)
    return f"did you mean {near[0]}? {kind.meaning}" if near else f"it is to {kind.meaning}"


def _unknown(source: str, name: str, kinds: Mapping[str, StepKind]) -> UsageError:
    near = difflib.get_close_matches(name, kinds, 1)
    if near:
        kind = kinds[near[0]]
        return UsageError(
            source,
            expected=f"one of {', '.join(kinds)}",
            got="another name",
            fix=f"did you mean {kind.usage}, {kind.meaning}?",
        )
    return UsageError(source, expected="a known one", got="another name", fix=f"there are {describe_steps(kinds)}")


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
