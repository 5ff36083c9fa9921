"""A bounded store of what is wanted again: what was used longest ago goes first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LRUCache(Generic[T]):
    """Values by key, as many as their sizes allow; threads may share it.

    Parameters
    ----------
    limit
        Sum of the sizes, in whatever unit they are given. One value is always kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """Return what is kept for `key`, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: T, size: int) -> T:
        """Keep a value and return it."""
        with self._lock:
            self._size += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            self._shrink(1)
        return value

    def get_or_make(self, key: Hashable, size: int, make: Callable[[], T]) -> T:
        """Return what is kept for `key`, made now if there is nothing."""
        found = self.get(key)
        return self.put(key, make(), size) if found is None else found

    def trim(self) -> None:
        """Drop a last value that is larger than the limit by itself, before another one is made."""
        with self._lock:
            self._shrink(0)

    def _shrink(self, kept: int) -> None:
        while self._size > self._limit and len(self._values) > kept:
            self._size -= self._values.popitem(last=False)[1][1]
