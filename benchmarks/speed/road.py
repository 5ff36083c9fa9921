"""The road of one photo through the house: files entered, switches between files, and what is done how often.

    python benchmarks/speed/road.py photo.png [--files]

Runs `selfseg segment PHOTO --method region_merging` twice in this process and traces the second run, when everything is imported and
compiled. Counted are calls of functions of the package; modules, class bodies, lambdas and comprehensions are not. A switch is a
call in another file than the call before it. `tests/test_road.py` holds the counts to their limits.
"""

import argparse
import inspect
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import selfseg
from selfseg.apps.cli import main as run

SOURCE = str(Path(selfseg.__file__).parent)

STATIONS = {
    "opened": ("read/formats.py", "open_lazy"),
    "decoded": ("read/image.py", "open_file"),
    "hashed": ("read/sources.py", "Source._fingerprint"),
    "prepared": ("sample/prepare.py", "ChainBuilder.__init__"),
    "assigned": ("methods/_regions.py", "RegionMethod.assign"),
}
"""Functions that do what should be done once."""


@dataclass
class Road:
    """What a run entered."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    switches: int = 0
    _last: str = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Count a call: the profiling function of `sys.setprofile`."""
        code = frame.f_code
        if (
            event != "call"
            or not (code.co_filename.startswith(SOURCE) and code.co_filename.endswith(".py"))
            or not _is_function(code)
        ):
            return
        file = code.co_filename[len(SOURCE) + 1 :]
        self.calls[file, code.co_qualname] += 1
        self.switches += file != self._last
        self._last = file

    @property
    def files(self) -> list[str]:
        """Files of the package that were entered."""
        return sorted({file for file, _ in self.calls})

    def count(self, station: str) -> int:
        """Return how often one of `STATIONS` was called."""
        return self.calls[STATIONS[station]]


def _is_function(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_OPTIMIZED) and not code.co_name.startswith("<")


def trace(photo: Path) -> Road:
    """Segment a photo twice, and return the road of the second run."""
    road = Road()
    with tempfile.TemporaryDirectory() as place:
        words = ["segment", str(photo), "--method", "region_merging", "-q", "-o"]
        if run([*words, f"{place}/first"]):
            raise SystemExit("the first run failed")
        sys.setprofile(road)
        try:
            run([*words, f"{place}/second"])
        finally:
            sys.setprofile(None)
    return road


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--files", action="store_true", help="name the files, with their calls")
    options = parser.parse_args()
    road = trace(options.photo)
    print(f"{len(road.files)} files entered, {road.switches} switches")
    print(", ".join(f"{station} {road.count(station)}" for station in STATIONS))
    if options.files:
        for file in road.files:
            called = {name: n for (one, name), n in road.calls.items() if one == file}
            print(f"{file}: {', '.join(f'{name} {n}' for name, n in called.items())}")


if __name__ == "__main__":
    main()
