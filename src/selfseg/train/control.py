"""What may be asked of a training run from outside, between two steps."""

from collections.abc import Callable
from enum import Enum


class Order(Enum):
    """What a run should do after a step."""

    GO = "go"
    """Go on."""

    PAUSE = "pause"
    """Save a checkpoint and stop there; the run can be resumed."""

    FINISH = "finish"
    """Save a checkpoint and end the training here, as if it had been the last step."""


Control = Callable[[], Order]
"""Asked after every step, so it must be quick."""
