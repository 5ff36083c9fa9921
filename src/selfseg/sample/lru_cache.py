"""Values of images that are kept while memory for them lasts."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LRUCache(Generic[T]):
    """Values by the key of their image; those used longest ago go first.

    Parameters
    ----------
    most_pixels
        Pixels of all images together for which values are kept. One image is always kept.
    """

    def __init__(self, most_pixels: int) -> None:
        self._most, self._pixels = most_pixels, 0
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, key: str) -> T | None:
        """Return what is kept for `key`, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: str, value: T, n_pixels: int) -> T:
        """Keep a value and return it."""
        if key in self._values:
            self._pixels -= self._values.pop(key)[1]
        self._values[key] = value, n_pixels
        self._pixels += n_pixels
        while self._pixels > self._most and len(self._values) > 1:
            self._pixels -= self._values.popitem(last=False)[1][1]
        return value

    def get_or_make(self, key: str, n_pixels: int, make: Callable[[], T]) -> T:
        """Return what is kept for `key`, made now if there is nothing."""
        found = self.get(key)
        return self.put(key, make(), n_pixels) if found is None else found
