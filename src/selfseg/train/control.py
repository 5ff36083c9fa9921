"""What may be asked of a training run from outside, between two steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Order(Enum):
    """What a run should do after a step."""

    GO = "go"
    """Go on."""

    PAUSE = "pause"
    """Save a checkpoint and stop there; the run can be resumed."""

    FINISH = "finish"
    """Save a checkpoint and end the training here, as if it had been the last step."""


@dataclass(frozen=True)
class OptionChange:
    """Go on with other values of some `live` options of the method from the next step on."""

    options: Mapping[str, Any]


Control = Callable[[], Order | OptionChange]
"""Asked after every step, so it must be quick."""
