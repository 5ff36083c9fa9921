"""The lists of files with their SHA-256 sums: one text file a dataset, one line a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Entry:
    """One line of a registry: ``SHA256 PATH`` and what a dataset notes beside it, by ``KEY=VALUE``."""

    sha256: str
    path: str
    notes: dict[str, str]


def read_registry(name: str) -> Iterator[Entry]:
    """Yield the entries of ``registry/NAME.txt``; lines that start with ``#`` are comments."""
    text = (files("selfseg.read.datasets") / "registry" / f"{name}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            sha256, path, *notes = line.split()
            yield Entry(sha256, path, dict(note.split("=", 1) for note in notes))
