"""Texts of an HDF5 file, read by a process of their own.

HDF5 keeps texts of free length on a heap whose lengths and addresses its library believes: where they are damaged, it crashes,
or fills gigabytes. A child process that dies or takes too long costs one line instead.
"""

import json
import subprocess
import sys
from pathlib import Path

SECONDS = 8.0
"""Longest time that the texts of one dataset may take."""

MEMORY = 4 << 30
"""Address space of the child, in bytes, where the system can limit it."""

SCRIPT = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[4]), int(sys.argv[4])))
except (ImportError, ValueError, OSError):
    pass
import h5py
import numpy
texts = {}
with h5py.File(sys.argv[1], "r", locking="best-effort") as file:
    for name in sys.argv[3].split():
        values = numpy.ravel(file[sys.argv[2]].attrs[name]).tolist()
        texts[name] = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
print(json.dumps(texts))
"""


def read_texts(file: Path, dataset: str, names: list[str]) -> dict[str, list[str]]:
    """Return attributes of a dataset that are texts, each as a list.

    Raises
    ------
    ValueError
        If they cannot be read: the child failed, crashed, or took more than `SECONDS`.
    """
    # -P: the folder that the user stands in is no place to import from
    words = [sys.executable, "-P", "-c", SCRIPT, str(file), dataset, " ".join(names), str(MEMORY)]
    try:
        done = subprocess.run(words, capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise ValueError("its attributes take too long to be read") from error
    if done.returncode != 0:
        raise ValueError("its attributes cannot be read")
    texts: dict[str, list[str]] = json.loads(done.stdout)
    return texts
