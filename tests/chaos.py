"""kill -9 at random moments of fit, predict and benchmark: every file is whole or absent, and the end is that of a run left alone.

``python tests/chaos.py [--kills 50] [--seed 0] [--minutes 15]``; `make chaos` runs it. Every command is killed at moments spread over
its life: each kill begins with an empty folder, afterwards all files are opened, and the same command goes on to its end, which
is compared with the undisturbed one byte by byte. So that a kill does not cost the seconds in which libraries are imported, commands
are forks of a process that has imported them and done each command once.
"""

import argparse
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from conftest import blobs, write_small_bsds
from reference.whole import broken_files, differing_bytes, unfinished_files

ONE_THREAD = {name: "1" for name in ("SELFSEG_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

SERVER = """
import os, sys
from selfseg.apps.cli import main
def do(words, log):
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1), os.dup2(sink, 2)
        code = main(words)
        sys.stdout.flush(), sys.stderr.flush()
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 99
    os._exit(code)
log, *warm = sys.argv[1:]
for command in warm:
    with open(log, "a") as sink:
        sys.stdout, sys.stderr, kept = sink, sink, (sys.stdout, sys.stderr)
        code = main(command.split("\\t"))
        sys.stdout, sys.stderr = kept
    if code:
        sys.exit(f"{command}: exit code {code}; see {log}")
print("ready", flush=True)
for line in sys.stdin:
    child = do(line.rstrip("\\n").split("\\t"), log)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Runs commands, each in a fork of one warm process.

    Parameters
    ----------
    log
        File that takes what they say.
    warm
        Commands to be done once before any other.
    """

    def __init__(self, log: Path, warm: list[list[str]]) -> None:
        words = [sys.executable, "-c", SERVER, str(log), *("\t".join(command) for command in warm)]
        environment = {**os.environ, **ONE_THREAD}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )
        if self._line() != "ready":
            raise RuntimeError(f"the commands do not run at all; see {log}")

    def run(self, words: list[str], kill_after: float | None = None) -> tuple[int, float]:
        """Run a command, kill it after so many seconds, and return its exit code and the seconds that it took."""
        self._process.stdin.write(("\t".join(words) + "\n").encode())
        child, begun = int(self._line()), time.monotonic()
        if kill_after is not None and not select.select([self._process.stdout], [], [], kill_after)[0]:
            try:
                os.killpg(child, signal.SIGKILL)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(child, signal.SIGKILL)
        return int(self._line()), time.monotonic() - begun

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            found = self._process.stdout.read(1)
            if not found:
                raise RuntimeError("the process that runs the commands ended")
            line += found
        return line.decode().strip()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Work:
    """A command that is killed: its words but for the output folder, and what goes on with it."""

    name: str
    words: tuple[str, ...]
    resume: tuple[str, ...] = ()

    def command(self, out: Path) -> list[str]:
        return [*self.words, "-o", str(out)]


def works(folder: Path) -> list[Work]:
    """Write small inputs, and return the commands."""
    photos, corner = folder / "photos", folder / "corner"
    for place, sizes in ((photos, [(40, 52), (48, 44)]), (corner, [(40, 40)])):
        place.mkdir()
        for seed, size in enumerate(sizes):
            Picture.fromarray(blobs(*size, seed=seed)).save(place / f"photo{seed}.png")
    np.save(folder / "large.npy", blobs(1100, 1000, seed=5))
    data = write_small_bsds(folder / "data")
    often = ("--checkpoint-every", "0", "--preview-every", "0", "--quiet", "--prepare", "range")
    clustering = ("--set", "iterations=40", "--set", "n_features=8", "--set", "n_clusters=8", "--set", "min_classes=1")
    wnet = (
        "--set",
        "iterations=15",
        "--set",
        "width=4",
        "--set",
        "depth=2",
        "--set",
        "patch=16",
        "--set",
        "n_clusters=4",
    )
    model, parts = str(folder / "model"), ("--axes", "YXC", "--memory", "1")
    contenders = ("--methods", "region_merging", "--baselines", "grid,one_region", "--workers", "1", "--quiet")
    return [
        Work("fit", ("fit", str(photos), *often, *clustering), ("--resume",)),
        Work("fit wnet", ("fit", str(photos), "--method", "wnet", *often, *wnet), ("--resume",)),
        Work("predict", ("predict", model, str(photos), "--quiet")),
        Work("predict in parts", ("predict", model, str(folder / "large.npy"), *parts, "--quiet")),
        Work("benchmark", ("benchmark", "bsds500", "--split", "val", "--data", str(data), *contenders)),
    ]


@dataclass
class Tally:
    """What came of all kills."""

    survived: int = 0
    broken: int = 0
    differing: int = 0
    left_over: int = 0


def chaos(folder: Path, kills: int, seed: int, seconds: float, chosen: list[str] | None = None) -> Tally:
    """Kill each command about equally often, and return the tally; what is wrong is printed as it is found.

    Parameters
    ----------
    folder
        An empty folder for inputs and outputs.
    kills
        How many kills there should be.
    seed
        Of the moments.
    seconds
        When to stop although there were fewer.
    chosen
        Names of the commands; None = all.
    """
    rng, tally, end = np.random.default_rng(seed), Tally(), time.monotonic() + seconds
    todo = works(folder)
    model = [*todo[0].words, "-o", str(folder / "model")]
    todo = [work for work in todo if chosen is None or work.name in chosen]
    warm = [model, *(work.command(folder / "warm" / work.name) for work in todo)]
    with _server(folder / "log.txt", warm) as server:
        for number, work in enumerate(todo):
            share = kills * (number + 1) // len(todo) - kills * number // len(todo)
            _kill_often(server, work, folder / work.name, share, rng, end, tally)
    return tally


@contextmanager
def _server(log: Path, warm: list[list[str]]) -> Iterator[Server]:
    server = Server(log, warm)
    try:
        yield server
    finally:
        server.close()


def _kill_often(
    server: Server, work: Work, folder: Path, kills: int, rng: np.random.Generator, end: float, tally: Tally
) -> None:
    straight = folder / "straight"
    code, seconds = server.run(work.command(straight))
    if code:
        raise RuntimeError(f"{work.name} left alone ended with exit code {code}")
    before, slot = tally.survived, 0
    while tally.survived - before < kills and time.monotonic() < end:
        # one moment in each of as many parts of its life as there are kills; those that come too late are tried earlier
        moment = seconds * ((slot % kills) + rng.random()) / kills * 0.97 ** (slot // kills)
        slot += 1
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        code, _ = server.run(work.command(out), kill_after=moment)
        if code != -signal.SIGKILL:
            continue
        _look(server, work, straight, out, f"{work.name} killed after {moment:.3f} of {seconds:.3f} s", tally)
    print(f"{work.name:18} {seconds:6.2f} s, killed {tally.survived - before} times", flush=True)


def _look(server: Server, work: Work, straight: Path, out: Path, what: str, tally: Tally) -> None:
    """Open what a kill has left, go on, and compare the end."""
    broken = broken_files(out)
    tally.left_over += len(unfinished_files(out))
    code, _ = server.run([*work.command(out), *work.resume])
    differing = differing_bytes(straight, out) if code == 0 else {f"exit code {code}": 1}
    broken |= broken_files(out)
    broken |= {str(path): "left over after the end" for path in unfinished_files(out)}
    for path, reason in [*broken.items(), *differing.items()]:
        print(f"{what}: {path}: {reason}", flush=True)
    tally.broken += len(broken)
    tally.differing += sum(differing.values())
    tally.survived += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="*", help="names of commands")
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="selfseg-chaos-") as folder:
        tally = chaos(Path(folder), asked.kills, asked.seed, 60 * asked.minutes, asked.only)
    print(
        f"{tally.survived} of {asked.kills} kills survived in {time.monotonic() - begun:.0f} s: {tally.broken} files broken, "
        f"{tally.differing} bytes differed; {tally.left_over} unfinished files were left by kills, and cleared away"
    )
    return int(tally.survived < asked.kills or tally.broken > 0 or tally.differing > 0)


if __name__ == "__main__":
    sys.exit(main())
