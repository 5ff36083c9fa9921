"""Processes that were started together to share the work of one command: which of them this one is."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """The place of a process among those that torchrun started.

    Attributes
    ----------
    rank
        Number of this process, from 0.
    world
        How many there are in all; 1 = nobody to share with.
    local_rank, local_world
        The same among those on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world}"


def own_rank() -> Rank:
    """Return the place that torchrun's environment says; that of a process alone where torchrun did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Rank()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Rank(
        *(int(os.environ.get(name, default)) for name, default in zip(names, ("0", "1", "0", "1"), strict=True))
    )
