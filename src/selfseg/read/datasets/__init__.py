"""Datasets with truth, a file each: where they come from, their terms, and the rule by which they are split.

`find_dataset` and `dataset_names` find them by file name; `Dataset.items` gives the images and truths of a split, out of a
folder of the user's or out of the cache that `download` fills; `verify` compares what is there with known SHA-256 sums.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfseg.read.datasets._base import Dataset, Item, RemoteFile, Task, dataset_names, find_dataset
    from selfseg.read.datasets._fetch import download
    from selfseg.read.datasets._verify import Fault, count_present, verify

_HOMES = {
    "_base": ["Dataset", "Item", "RemoteFile", "Task", "dataset_names", "find_dataset"],
    "_fetch": ["download"],
    "_verify": ["Fault", "count_present", "verify"],
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Dataset",
    "Fault",
    "Item",
    "RemoteFile",
    "Task",
    "count_present",
    "dataset_names",
    "download",
    "find_dataset",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
