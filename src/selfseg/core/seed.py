"""Randomness is an argument. Every random choice is a pure function of one seed and of where it is made."""

import zlib

import numpy as np


def derive(seed: int, *where: str | int) -> int:
    """Return a 63-bit seed for one place in the program: ``derive(seed, "batch", step)``.

    The same arguments give the same value on every machine, so that a resumed run draws what a straight run draws.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in where]
    state = np.random.SeedSequence([int(seed), *words]).generate_state(2, np.uint32)
    return (int(state[0]) << 31) ^ int(state[1])


def generator(seed: int, *where: str | int) -> np.random.Generator:
    """Return a NumPy generator for one place in the program (see `derive`)."""
    return np.random.default_rng(derive(seed, *where))
