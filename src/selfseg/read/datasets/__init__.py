"""Datasets with truth, a file each: where they come from, their terms, and the rule by which they are split.

`find_dataset` and `dataset_names` find them by file name; `Dataset.items` gives the images and truths of a split, out of a
folder of the user's or out of the cache that `download` fills; `verify` compares what is there with known SHA-256 sums.
"""

from selfseg.read.datasets._base import (
    Dataset,
    Fault,
    Item,
    RemoteFile,
    Task,
    count_present,
    dataset_names,
    download,
    find_dataset,
    verify,
)

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
