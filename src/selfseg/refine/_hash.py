"""A hash table of 64-bit numbers: each distinct one gets a place in the order in which they come."""

import numpy as np
from numba import njit

SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 / golden ratio: multiplied by it, the high bits of a number are evenly spread (Fibonacci hashing)."""


@njit(cache=True, nogil=True)
def slot_of(slots, found, key):
    """Return the place of a number in the hash table: where it is, or where it would go."""
    last = np.uint64(len(slots) - 1)
    place = ((key * SPREAD) >> np.uint64(32)) & last
    while slots[place] >= 0 and found[slots[place]] != key:
        place = (place + np.uint64(1)) & last
    return place


@njit(cache=True, nogil=True)
def number_keys(keys, ids):
    """Number the distinct keys in the order in which they come; return the hash table and the keys by number."""
    slots, found = np.full(1 << 16, -1, np.int32), np.empty(1 << 15, np.uint64)
    count = 0
    for i in range(len(keys)):
        if count == len(found):
            found = np.concatenate((found, np.empty_like(found)))
            slots = np.full(2 * len(slots), -1, np.int32)
            for j in range(count):
                slots[slot_of(slots, found, found[j])] = j
        place = slot_of(slots, found, keys[i])
        if slots[place] < 0:
            slots[place] = count
            found[count] = keys[i]
            count += 1
        ids[i] = slots[place]
    return slots, found[:count]
