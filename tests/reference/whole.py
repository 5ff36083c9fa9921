"""Whether the files of an output folder are whole, each opened by its own library, and by how much two folders differ."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image as Picture
from safetensors import safe_open

from selfseg.core.files import NOTES

TIMES = {
    *("seconds", "seconds_scoring", "seconds_all", "frames_per_second", "peak_memory", "peak_memory_bytes", "date"),
    *("weights_sha256", "commit"),
}
"""Keys under which something stands that no two runs have in common, but for the hash: the weights are compared themselves; and
the commit, which changes while somebody works on the code."""

TIMED = {"report.html", "README.md", "table.md", "table.csv", "images.csv", "status.json"}
"""Files made of what is compared, and of times; and how far the last process of a studio's run has come."""


def read_zarr(path: Path) -> np.ndarray:
    import zarr

    group = zarr.open_group(path, mode="r")
    return np.asarray(group["0"])


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def read_lines(path: Path) -> list[Any]:
    """Read a journal or a log of blocks: a last line that a kill has cut short does not count."""
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line != "x" and not (line.endswith("x") and line[:-1].isdigit())]


def read_text(end: str) -> Any:
    def read(path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        if not text.rstrip().endswith(end):
            raise ValueError(f"it does not end with {end!r}")
        return text

    return read


def read_table(path: Path) -> list[list[str]]:
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    if len({len(row) for row in rows}) != 1 or not path.read_bytes().endswith(b"\n"):
        raise ValueError("rows of different lengths")
    return rows


def read_nifti(path: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(path).dataobj)


def read_mrc(path: Path) -> np.ndarray:
    import mrcfile

    return mrcfile.read(path)


def read_hdf5(path: Path) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        return file["labels"][...]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def read_video(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


READERS = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": read_lines,
    ".blocks": read_lines,
    ".tif": tifffile.imread,
    ".png": lambda path: np.asarray(Picture.open(path)),
    ".safetensors": read_safetensors,
    ".zarr": read_zarr,
    ".html": read_text("</html>"),
    ".svg": read_text("</svg>"),
    ".csv": read_table,
    ".md": read_text(""),
    ".gz": read_nifti,
    ".mrc": read_mrc,
    ".h5": read_hdf5,
    ".npz": read_npz,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".mp4": read_video,
    ".mkv": read_video,
}


def files_of(folder: Path) -> list[Path]:
    """Return the finished files of a folder; a zarr counts as one."""
    zarrs = [path for path in folder.rglob("*.zarr") if path.is_dir()]
    files = [path for path in folder.rglob("*") if path.is_file() and not any(z in path.parents for z in zarrs)]
    left = set(unfinished_files(folder))
    return sorted({*zarrs, *files} - left)


def unfinished_files(folder: Path) -> list[Path]:
    """Return what a killed process leaves beside the files that it was writing; its notes of what it wrote are no such thing."""
    hidden = (path for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".partial")
    return [path for path in hidden if path.name != NOTES]


def broken_files(folder: Path) -> dict[str, str]:
    """Return why files cannot be opened, by name; a kind of file that nothing here can open is broken too."""
    broken = {}
    for path in files_of(folder):
        try:
            READERS[path.suffix](path)
        except Exception as error:  # noqa: BLE001 (whatever it is, the file is not whole)
            broken[str(path.relative_to(folder))] = f"{type(error).__name__}: {error}"
    return broken


def differing_bytes(one: Path, other: Path) -> dict[str, int]:
    """Return how many bytes differ, by file: of its content, where it holds times too. A missing file counts as a whole."""
    first = {path.relative_to(one): path for path in files_of(one)}
    second = {path.relative_to(other): path for path in files_of(other)}
    found = {}
    for name in sorted({*first, *second}):
        a = b"" if name not in first else content_of(first[name])
        b = b"" if name not in second else content_of(second[name])
        differing = sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
        if differing or (name in first) != (name in second):
            found[str(name)] = max(1, differing)
    return found


def content_of(path: Path) -> bytes:
    """Return the bytes that two runs must have in common."""
    if path.is_dir():
        return b"".join(
            str(file.relative_to(path)).encode() + file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file()
        )
    if path.name in TIMED:
        return b""
    if path.suffix in (".json", ".jsonl"):
        return json.dumps(without_times(READERS[path.suffix](path)), indent=1).encode()
    if path.name == "checkpoint.safetensors" or path.parent.name == "checkpoints":  # its header holds the seconds
        return b"".join(name.encode() + value.tobytes() for name, value in sorted(read_safetensors(path).items()))
    return path.read_bytes()


def without_times(value: Any) -> Any:
    """Return plain values without those that say how long something took, and where it lies."""
    if isinstance(value, dict):
        names = {key: sorted(one) if key == "files" else one for key, one in value.items()}  # digests are of times too
        return {key: without_times(one) for key, one in names.items() if key not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value
