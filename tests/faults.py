"""Every write can fail: repeat each command with its n-th write failing, for every n, as SQLite tests itself.

``python tests/faults.py [--only NAME ...] [--stride 1] [--minutes 15]``; `make chaos` runs it. Write operations below the folder of
the outputs are counted in one undisturbed run: opening for writing, writing, fsync, rename, unlink, rmdir, mkdir, link. Then
the command is repeated, each time in a fork of one process that has imported everything and done every command once, with the n-th
operation failing:

- ``kill``: the process ends there, as by kill -9;
- ``full``: from there on the disk is full (ENOSPC; what is there can still be removed);
- ``eio``: this one operation fails with an I/O error;
- ``denied``: from there on nothing below the folder can be opened for writing, made, renamed or removed (EACCES).

After each: no file is broken; an error is one line that names a file or folder, no traceback; and the same command (or the one that
resumes) ends with the same bytes as the run left alone.

The operations are seen by an audit hook of Python (`sys.addaudithook`: whatever opens, renames, removes or makes files through Python, in
any library), by files opened through `io.open`, whose raw `write` counts, and by `os.fsync` and `os.write`. Not seen are writes that a C
library makes on a descriptor or a path of its own, for example NumPy's `tofile`, HDF5, safetensors, FFmpeg and zarr's codecs: of those
files the reserving, the fsync and the rename around them are seen, and `tests/apps/test_full_disk.py` fills the disk in their middle.
"""

import argparse
import builtins
import contextlib
import errno
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

for name in ("SELFSEG_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
from PIL import Image as Picture  # noqa: E402

from conftest import blobs, write_small_bsds  # noqa: E402
from reference.whole import broken_files, differing_bytes, unfinished_files  # noqa: E402

KINDS = ("kill", "full", "eio", "denied")
ERRORS = {"full": errno.ENOSPC, "eio": errno.EIO, "denied": errno.EACCES}
KILLED = 137
REMOVING = ("os.remove", "os.rmdir", "shutil.rmtree")


@dataclass
class Faults:
    """Counts the write operations below a folder, and lets one fail."""

    root: str = ""
    kind: str = ""
    at: int = 0
    count: int = 0
    log: list[str] = field(default_factory=list)

    def tick(self, operation: str, path: str) -> None:
        """Note an operation; end the process or raise an error where it is to fail."""
        self.count += 1
        self.log.append(f"{operation} {path[len(self.root) :]}")
        if not self.kind or self.count < self.at:
            return
        if self.kind == "kill":
            os._exit(KILLED)
        if self.kind == "eio" and self.count > self.at:
            return
        if self.kind == "full" and operation in REMOVING:
            return
        if self.kind == "denied" and operation in ("write", "os.fsync"):
            return
        code = ERRORS[self.kind]
        raise OSError(code, os.strerror(code), path)

    def concerns(self, path: object) -> str:
        """Return a path if it lies below the folder, else nothing."""
        if isinstance(path, int):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{path}")  # noqa: PTH115
        if not self.root or not isinstance(path, str | bytes | os.PathLike):
            return ""
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (links are not followed)
        return text if text.startswith(self.root) else ""

    def hook(self, event: str, args: tuple[object, ...]) -> None:
        """See what Python does, whoever calls it."""
        if not self.root:
            return
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            found = "" if not writes or isinstance(path, int) else self.concerns(path)
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.link", "os.rename", "os.truncate"):
            found = self.concerns(args[1] if event in ("os.link", "os.rename") else args[0])
        else:
            return
        if found:
            self.tick(event, found)


FAULTS = Faults()


class FaultyFile(io.FileIO):
    """A raw file whose writes count."""

    def write(self, data: object) -> int:  # type: ignore[override]
        if found := FAULTS.concerns(self.name):
            FAULTS.tick("write", found)
        return super().write(data)  # type: ignore[arg-type]


def install() -> None:
    """See all write operations of this process and of its forks."""
    plain_open, plain_fsync, plain_write = io.open, os.fsync, os.write

    def open_seen(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if not FAULTS.root or not set(mode) & set("wax+") or not FAULTS.concerns(file):
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = FaultyFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding, errors, newline)
        text.mode = mode
        return text

    def fsync_seen(handle):
        if found := FAULTS.concerns(handle if isinstance(handle, int) else handle.fileno()):
            FAULTS.tick("os.fsync", found)
        return plain_fsync(handle)

    def write_seen(handle, data):
        if found := FAULTS.concerns(handle):
            FAULTS.tick("write", found)
        return plain_write(handle, data)

    io.open = builtins.open = open_seen
    os.fsync, os.write = fsync_seen, write_seen
    sys.addaudithook(FAULTS.hook)


@dataclass(frozen=True)
class Work:
    """A command: what it does in a folder that `begin` has prepared, and how it goes on."""

    name: str
    run: Callable[[Path], int]
    resume: Callable[[Path], int] | None = None
    begin: Callable[[Path], None] = lambda out: None


def in_fork(work: Callable[[], int], log: Path, notes: Path | None = None) -> int:
    """Do something in a fork, and return its exit code; 99 = it raised."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1), os.dup2(sink, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = work()
    except BaseException:  # noqa: BLE001 (whatever it is, it must be seen)
        traceback.print_exc()
    FAULTS.root = ""
    if notes is not None:
        notes.write_text("\n".join(FAULTS.log))
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)


def selfseg(*words: str) -> Callable[[Path], int]:
    """Return a command line as a function of its output folder, which is ``OUT`` in its words."""
    from selfseg.apps.cli import main

    return lambda out: main([word.replace("OUT", str(out)) for word in words])


def works(folder: Path) -> list[Work]:
    """Write small inputs, and return the commands."""
    photos = folder / "photos"
    photos.mkdir()
    for seed, size in enumerate([(40, 52), (40, 52)]):
        Picture.fromarray(blobs(*size, seed=seed)).save(photos / f"photo{seed}.png")
    np.save(folder / "large.npy", blobs(600, 560, seed=5))
    data, model = write_small_bsds(folder / "data"), str(folder / "model")
    small = ("--set", "iterations=4", "--set", "n_features=8", "--set", "n_clusters=8", "--set", "min_classes=1")
    fit = ("fit", str(photos), *small, "--checkpoint-every", "0", "--preview-every", "0", "--quiet", "-o", "OUT/model")
    if selfseg(*fit[:-1], model)(folder):
        raise RuntimeError("fit does not run at all")
    predict = ("predict", model, str(photos), "--quiet", "-o", "OUT/out")
    parts = ("predict", model, str(folder / "large.npy"), "--axes", "YXC", "--memory", "1", "--quiet", "-o", "OUT/out")
    contenders = ("--methods", "region_merging", "--baselines", "grid", "--workers", "1", "--quiet")

    def segmented(out: Path) -> None:
        if not (folder / "segmented").exists():
            selfseg(*predict)(folder / "segmented")
        shutil.copytree(folder / "segmented" / "out", out / "out")

    def edited(out: Path) -> None:
        segmented(out)
        (out / "edits.json").write_text('{"format": 1, "merge": [[1, 2]], "names": {"1": "one"}}')

    return [
        Work("fit", selfseg(*fit), selfseg(*fit, "--resume")),
        Work("predict", selfseg(*predict)),
        Work("in parts", selfseg(*parts)),
        Work("sequence", selfseg(*predict, "--sequence")),
        Work("again", selfseg(*predict), begin=segmented),
        Work("export", selfseg("export", "OUT/out", "--format", "coco"), begin=segmented),
        Work("instances", selfseg("instances", "OUT/out"), begin=segmented),
        Work("tree", selfseg(*predict, "--tree")),
        Work(
            "benchmark",
            selfseg("benchmark", "bsds500", "--split", "val", "--data", str(data), *contenders, "-o", "OUT/b"),
        ),
        Work("studio", lambda out: _project(out, photos)),
    ]


def _project(out: Path, photos: Path) -> int:
    """Make a studio's project, and do its first run in this process."""
    from selfseg.apps.studio import runs, worker

    run = out / "project" / "run"
    run.mkdir(parents=True, exist_ok=True)
    runs.Spec("first look", inputs=(str(photos / "photo0.png"),)).save(run)
    return worker.main(run)


@dataclass
class Tally:
    """What came of all faults."""

    done: int = 0
    wrong: list[str] = field(default_factory=list)


def faults(folder: Path, chosen: list[str] | None, stride: int, seconds: float, kinds: tuple[str, ...]) -> Tally:
    """Let every `stride`-th write of each command fail in each way, and return the tally; what is wrong is printed."""
    tally = Tally()
    install()
    todo = [work for work in works(folder) if chosen is None or work.name in chosen]
    end = time.monotonic() + seconds
    for work in todo:
        place = folder / work.name.replace(" ", "_")
        out, log, notes = place / "out", place / "log.txt", place / "operations.txt"
        out.mkdir(parents=True)
        work.begin(out)
        if work.run(out):  # in this process, which knows all that its forks need then
            raise RuntimeError(f"{work.name} does not run at all")
        begun = time.monotonic()
        _begin(work, out)
        code = in_fork(lambda: _watched(work, out, "", 0), log, notes)  # noqa: B023 (called at once)
        if code:
            raise RuntimeError(f"{work.name} left alone ended with exit code {code}: {log.read_text()[-2000:]}")
        out.rename(place / "straight")  # each run is in a folder of the same name, which stands in its files
        operations = notes.read_text().split("\n")
        took, before = time.monotonic() - begun, tally.done
        for at in range(1, len(operations) + 1, stride):
            for kind in kinds:
                if time.monotonic() < end:
                    _fail_once(work, place, kind, at, operations[at - 1], tally)
        print(
            f"{work.name:10} {took:5.1f} s, {len(operations)} writes, {tally.done - before} faults, "
            f"{len(tally.wrong)} wrong so far",
            flush=True,
        )
    return tally


def _begin(work: Work, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    work.begin(out)


def _watched(work: Work, out: Path, kind: str, at: int) -> int:
    FAULTS.kind, FAULTS.at, FAULTS.count, FAULTS.log = kind, at, 0, []
    FAULTS.root = str(out.resolve()) + os.sep
    return work.run(out)


def _fail_once(work: Work, place: Path, kind: str, at: int, operation: str, tally: Tally) -> None:
    out, log = place / "out", place / "log.txt"
    _begin(work, out)
    code = in_fork(lambda: _watched(work, out, kind, at), log)
    said, what = log.read_text(errors="replace"), f"{work.name}, {kind} at {at} ({operation})"
    faulty = list(_complaints(kind, code, said))
    faulty += [f"broken: {path}: {why}" for path, why in broken_files(out).items()]
    code = in_fork(lambda: (work.resume or work.run)(out), log)
    if code:
        faulty.append(f"going on ended with {code}: {log.read_text(errors='replace')[-300:]}")
    else:
        faulty += [
            f"after going on {path} differs by {n} bytes"
            for path, n in differing_bytes(place / "straight", out).items()
        ]
        faulty += [f"left over: {path}" for path in unfinished_files(out)]
    tally.done += 1
    for line in faulty:
        tally.wrong.append(f"{what}: {line}")
        print(f"{what}: {line}", flush=True)


def _complaints(kind: str, code: int, said: str) -> Iterator[str]:
    """Yield what is wrong with how a command ended that a fault befell."""
    if kind == "kill":
        if code not in (KILLED, 0):
            yield f"exit code {code} of a killed run"
        return
    if "Traceback" in said or code not in (0, 1):
        yield f"exit code {code}: {said.strip()[-400:]}"
    elif code == 1 and os.sep not in said:
        yield f"no file is named: {said.strip()[-200:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", help="names of commands")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--minutes", type=float, default=15.0)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="selfseg-faults-") as folder:
        tally = faults(Path(folder), asked.only, asked.stride, 60 * asked.minutes, tuple(asked.kinds))
    print(f"{tally.done} faults in {time.monotonic() - begun:.0f} s: {len(tally.wrong)} wrong")
    return int(bool(tally.wrong) or not tally.done)


if __name__ == "__main__":
    sys.exit(main())
