"""Every write can fail: repeat each command with its n-th write failing, for every n, as SQLite tests itself.

``python tests/faults.py [--only NAME ...] [--kinds KIND ...] [--stride 1] [--shift 0] [--minutes 15] [--jobs 1]``; `make chaos` runs it.
Write operations below the folder of the outputs are counted in one undisturbed run: opening for writing, writing, fsync, rename,
unlink, rmdir, mkdir, link. Then the command is repeated, each time in a fork of one process that has imported everything and done every
command once, with the n-th operation failing:

- ``kill``: the process ends there, as by kill -9;
- ``full``: from there on the disk is full (ENOSPC; what is there can still be removed);
- ``eio``: this one operation fails with an I/O error;
- ``denied``: from there on nothing below the folder can be opened for writing, made, renamed or removed (EACCES).

After each: no file is broken; an error is one line that names a file or folder, no traceback; and the same command (or the one that
resumes) ends with the same bytes as the run left alone. It goes on once from every state that faults leave a folder in, times apart:
what a command does depends on the folder, not on how the folder came about.

A stride of N takes every N-th write for each kind, from one on that moves with `--shift` (the day, if it is not given): N days
take all.

The operations are seen by an audit hook of Python (`sys.addaudithook`: whatever opens, renames, removes or makes files through Python, in
any library), by files opened through `io.open`, whose raw `write` counts, and by `os.fsync` and `os.write`. Not seen are writes that a C
library makes on a descriptor or a path of its own, for example NumPy's `tofile`, HDF5, safetensors, FFmpeg and zarr's codecs: of those
files the reserving, the fsync and the rename around them are seen, and `tests/apps/test_full_disk.py` fills the disk in their middle.
"""

import argparse
import builtins
import contextlib
import errno
import hashlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

for name in ("SELFSEG_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
from PIL import Image as Picture  # noqa: E402

from conftest import blobs, write_small_bsds  # noqa: E402
from reference.whole import broken_files, content_of, differing_bytes, unfinished_files, without_times  # noqa: E402
from selfseg.core.files import NOTES  # noqa: E402

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
    """A command: what it does in a folder that `begin` has prepared, and how it goes on.

    One that is done `once` changes what is there: when it was killed after all was done, it is not given again.
    """

    name: str
    run: Callable[[Path], int]
    resume: Callable[[Path], int] | None = None
    begin: Callable[[Path], None] = lambda out: None
    once: bool = False


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
    small = (
        "--set",
        "iterations=2",
        "--set",
        "min_epochs=2",
        "--set",
        "n_features=8",
        "--set",
        "n_clusters=8",
        "--set",
        "min_classes=1",
    )
    fit = ("fit", str(photos), *small, "--checkpoint-every", "0", "--preview-every", "0", "--quiet", "-o", "OUT/model")
    if selfseg(*fit[:-1], model)(folder):
        raise RuntimeError("fit does not run at all")
    predict = ("predict", model, str(photos), "--quiet", "-o", "OUT/out")
    parts = ("predict", model, str(folder / "large.npy"), "--axes", "YXC", "--memory", "1", "--quiet", "-o", "OUT/out")
    contenders = ("--methods", "region_merging", "--baselines", "grid", "--workers", "1", "--quiet")

    def made_by(name: str, *words: str) -> Callable[[Path], None]:
        """Return what copies the folder that a command has written, which is done once."""

        def begin(out: Path) -> None:
            if not (folder / name).exists() and selfseg(*words)(folder / name):
                raise RuntimeError(f"{name} does not run at all")
            shutil.copytree(folder / name / "out", out / "out")

        return begin

    segmented, treed = made_by("segmented", *predict), made_by("treed", *predict, "--tree")
    learned = made_by("learned", "segment", str(photos), *small, "--quiet", "-o", "OUT/out")
    change = ("--merge", "1+2", "--name", "1=one", "--remove-objects", "9", "--quiet")
    benchmark = ("benchmark", "bsds500", "--split", "val", "--data", str(data), *contenders, "-o", "OUT/b")
    return [
        Work("fit", selfseg(*fit), selfseg(*fit, "--resume")),
        Work("predict", selfseg(*predict)),
        Work("in parts", selfseg(*parts)),
        Work("sequence", selfseg(*predict, "--sequence")),
        Work("again", selfseg(*predict), begin=segmented),
        Work("export", selfseg("export", "OUT/out", "--format", "coco"), begin=segmented),
        Work("instances", selfseg("instances", "OUT/out"), begin=segmented),
        Work("tree", selfseg(*predict, "--tree")),
        Work("cut", selfseg("cut", "OUT/out", "--regions", "3", "--quiet"), begin=treed),
        Work("edit", selfseg("edit", "OUT/out", *change), begin=learned, once=True),
        Work("benchmark", selfseg(*benchmark)),
        Work("studio", lambda out: _project(out, photos)),
    ]


def _project(out: Path, photos: Path) -> int:
    """Make a studio's run, if there is none yet, and do it in this process."""
    from selfseg.apps.studio import runs, worker
    from selfseg.core.errors import SelfsegError

    known = runs.Runs(out / "project" / runs.RUNS)
    try:
        run = [*known.all(), None][0] or known.create(runs.Spec("first look", inputs=(str(photos / "photo0.png"),)))
    except SelfsegError as error:  # what the server answers
        print(error)
        return 1
    return worker.main(run.folder)


@dataclass
class Tally:
    """What came of the faults of one command."""

    writes: int = 0
    chosen: int = 0
    done: int = 0
    states: int = 0
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.chosen += other.chosen
        self.done += other.done
        self.states += other.states
        self.wrong += other.wrong
        self.writes = max(self.writes, other.writes)
        return self


@dataclass
class Place:
    """A command in a folder of its own: what it does when left alone, and what was seen of its faults."""

    work: Work
    folder: Path
    operations: list[str] = field(default_factory=list)
    ends: dict[str, list[str]] = field(default_factory=dict)
    """What is wrong after going on, by the state of the folder before."""
    tally: Tally = field(default_factory=Tally)

    @property
    def out(self) -> Path:
        """Folder of the outputs: of the same name in each run, since it stands in the files."""
        return self.folder / "out"

    @property
    def log(self) -> Path:
        """File of what was said last."""
        return self.folder / "log.txt"

    def straight(self) -> None:
        """Do the command in a fork, undisturbed, and note its operations."""
        self.begin()
        notes = self.folder / "operations.txt"
        if code := in_fork(lambda: _watched(self.work, self.out, "", 0), self.log, notes):
            said = self.log.read_text()[-2000:]
            raise RuntimeError(f"{self.work.name} left alone ended with exit code {code}: {said}")
        self.out.rename(self.folder / "straight")
        self.operations = notes.read_text().split("\n")
        self.tally.writes = len(self.operations)

    def begin(self) -> None:
        """Make the folder as it is before the command."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.work.begin(self.out)

    def fail(self, kind: str, at: int) -> None:
        """Let one write fail, and print what is wrong."""
        self.begin()
        code = in_fork(lambda: _watched(self.work, self.out, kind, at), self.log)
        said, what = (
            self.log.read_text(errors="replace"),
            f"{self.work.name}, {kind} at {at} ({self.operations[at - 1]})",
        )
        faulty = list(_complaints(kind, code, said))
        faulty += [f"broken: {path}: {why}" for path, why in broken_files(self.out).items()]
        if not (self.work.once and not self._differing()):
            state = state_of(self.out)
            if state not in self.ends:
                self.ends[state] = self._go_on()
                self.tally.states += 1
            faulty += self.ends[state]
        self.tally.done += 1
        for line in faulty:
            self.tally.wrong.append(f"{what}: {line}")
            print(f"{what}: {line}", flush=True)

    def _differing(self) -> dict[str, int]:
        found = differing_bytes(self.folder / "straight", self.out)
        return {path: n for path, n in found.items() if not path.endswith(NOTES)} if self.work.once else found

    def _go_on(self) -> list[str]:
        code = in_fork(lambda: (self.work.resume or self.work.run)(self.out), self.log)
        if code:
            return [f"going on ended with {code}: {self.log.read_text(errors='replace')[-300:]}"]
        faulty = [f"after going on {path} differs by {n} bytes" for path, n in self._differing().items()]
        return faulty + [f"left over: {path}" for path in unfinished_files(self.out)]


def state_of(folder: Path) -> str:
    """Return a digest of all files and folders, but for times, digests of files, and the random parts of hidden names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = re.sub(r"unfinished-[a-z0-9_]{8}|[0-9a-f]{32}", "*", str(path.relative_to(folder)))
        content = b"folder"
        if path.is_file():
            content = path.read_bytes()
            with contextlib.suppress(Exception):  # half a file is taken as it is
                content = _notes_of(path) if path.name == NOTES else content_of(path)
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _notes_of(path: Path) -> bytes:
    """Return which files are noted; the line that a kill has cut short too."""
    *lines, last = path.read_text().split("\n")
    rows = [without_times({**json.loads(line), "digest": None}) for line in lines]
    return repr((rows, bool(last))).encode()


def chosen(places: list[Place], kinds: tuple[str, ...], stride: int, shift: int) -> list[tuple[Place, str, int]]:
    """Return the faults to be tried, those of all commands mixed, so that a limit of time cuts them alike."""
    found = []
    for place in places:
        for number, kind in enumerate(kinds):
            first = (shift + number * max(1, stride // len(kinds))) % stride
            found += [(place, kind, at + 1) for at in range(first, len(place.operations), stride)]
    random.Random(shift).shuffle(found)
    return found


def do_share(folder: Path, todo: list[Work], asked: argparse.Namespace, number: int) -> dict[str, Tally]:
    """Try every `asked.jobs`-th fault until the time is over; return a tally for each command."""
    places = [Place(work, folder / work.name.replace(" ", "_")) for work in todo]
    for place in places:
        place.straight()
    shift = date.today().toordinal() if asked.shift is None else asked.shift
    for index, (place, kind, at) in enumerate(chosen(places, tuple(asked.kinds), asked.stride, shift)):
        if index % asked.jobs == number:
            place.tally.chosen += 1
            if time.monotonic() < asked.end:
                place.fail(kind, at)
    return {place.work.name: place.tally for place in places}


def faults(folder: Path, asked: argparse.Namespace) -> dict[str, Tally]:
    """Let writes of each command fail in each way, and return the tallies; what is wrong is printed."""
    install()
    (folder / "warm").mkdir()
    todo = [work for work in works(folder) if not asked.only or work.name in asked.only]
    for work in todo:  # in this process, which knows all that its forks need then
        place = Place(work, folder / "warm" / work.name)
        place.begin()
        if work.run(place.out):
            raise RuntimeError(f"{work.name} does not run at all")
    tallies = {work.name: Tally() for work in todo}
    children = {}
    for number in range(asked.jobs):
        if child := os.fork():
            children[child] = folder / f"tally{number}.json"
            continue
        code = 1
        with contextlib.suppress(BaseException):
            try:
                found = do_share(folder / f"job{number}", todo, asked, number)
                text = json.dumps({name: asdict(tally) for name, tally in found.items()})
                (folder / f"tally{number}.json").write_text(text)
                code = 0
            except BaseException:
                traceback.print_exc()
                raise
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    for child, path in children.items():
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise RuntimeError("the faults could not be tried")
        for name, tally in json.loads(path.read_text()).items():
            tallies[name] += Tally(**tally)
    return tallies


def _watched(work: Work, out: Path, kind: str, at: int) -> int:
    FAULTS.kind, FAULTS.at, FAULTS.count, FAULTS.log = kind, at, 0, []
    FAULTS.root = str(out.resolve()) + os.sep
    return work.run(out)


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
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--shift", type=int, help="where a stride begins; default: it moves on every day")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    asked = parser.parse_args()
    begun = time.monotonic()
    asked.end = begun + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="selfseg-faults-") as folder:
        tallies = faults(Path(folder), asked)
    total = Tally()
    for name, tally in tallies.items():
        states = f"{tally.states} states gone on from"
        print(f"{name:10} {tally.writes:4} writes, {tally.done:5} faults, {states}, {len(tally.wrong)} wrong")
        tally.writes += total.writes
        total += tally
    every = total.writes * len(asked.kinds)
    print(f"{total.done} of {every} faults in {time.monotonic() - begun:.0f} s: {len(total.wrong)} wrong")
    if total.done < total.chosen:
        print(f"the time was over before {total.chosen - total.done} of the {total.chosen} that were chosen")
    return int(bool(total.wrong) or not total.done)


if __name__ == "__main__":
    sys.exit(main())
