"""Two versions of selfseg side by side: whole commands, before and after in turn, median ratio of time and peak memory with its spread.

    git worktree add ../before REVISION
    python benchmarks/speed/versions.py --before ../before/src --after src --data DATA --runs 5

Tasks: `segment` of a photo, `predict` of 20 photos, of a 4096 x 4096 zarr in parts, and of a clip of 60 frames. Each version learns its own
model first, which is not counted. A run of each version is a warm-up. Prints a table in Markdown, and writes it with `--json`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def run(source: Path, words: list[str]) -> tuple[float, float]:
    """Run `selfseg` of a source tree; return wall seconds and peak memory of the process in MB."""
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())}
    begun = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "selfseg", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    errors = child.stderr.read() if child.stderr is not None else b""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {child.returncode}\n{errors.decode()}")
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def make_inputs(data: Path, folder: Path) -> dict[str, Path]:
    """Make the photo, the photos, the zarr and the clip."""
    import av
    import tifffile
    import zarr
    from PIL import Image

    photos = sorted((data / "bsds500" / "images" / "val").glob("*.jpg"))[:20]
    (folder / "photos").mkdir()
    for photo in photos:
        shutil.copy(photo, folder / "photos")
    tile = np.asarray(Image.open(photos[0]))
    large = np.tile(tile, (4096 // tile.shape[0] + 1, 4096 // tile.shape[1] + 1, 1))[:4096, :4096]
    array = zarr.create_array(folder / "large.zarr", shape=large.shape, chunks=(512, 512, 3), dtype="u1")
    array[...] = large
    array.attrs["axes"] = "YXC"
    tifffile.imwrite(folder / "photo.tif", tile, photometric="rgb")
    with av.open(folder / "clip.mp4", "w") as clip:
        stream = clip.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(60):
            frame = np.ascontiguousarray(np.roll(tile, number, 1)[:240, :320])
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        clip.mux(stream.encode())
    return {
        "photo": photos[0],
        "photos": folder / "photos",
        "large": folder / "large.zarr",
        "clip": folder / "clip.mp4",
    }


def tasks(inputs: dict[str, Path], model: Path, out: Path) -> dict[str, list[str]]:
    """Return the command of each task."""
    predict = ["predict", str(model)]
    return {
        "segment a photo": ["segment", str(inputs["photo"]), "--method", "region_merging", "-o", str(out), "-q"],
        "predict 20 photos": [*predict, str(inputs["photos"]), "-o", str(out), "-q"],
        "predict a 4096 x 4096 zarr": [
            *predict,
            str(inputs["large"]),
            "--axes",
            "YXC",
            "--memory",
            "1GB",
            "-o",
            str(out),
            "-q",
        ],
        "predict a clip of 60 frames": [*predict, str(inputs["clip"]), "-o", str(out), "-q"],
    }


def main() -> None:
    """Measure every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="run only tasks with this text in their names")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sides = {"before": options.before, "after": options.after}
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        inputs = make_inputs(options.data, folder)
        fit = ["fit", str(inputs["photos"]), "--limit", "4", "--preset", "fast", "--prepare", "range", "-q", "-o"]
        for side, source in sides.items():
            run(source, [*fit, str(folder / f"model-{side}")])
        for name in tasks(inputs, folder, folder):
            if options.only not in name:
                continue
            seen: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for number in range(options.runs + 1):
                for side, source in sides.items():
                    out = folder / "out"
                    shutil.rmtree(out, ignore_errors=True)
                    found = run(source, tasks(inputs, folder / f"model-{side}", out)[name])
                    if number:
                        seen[side].append(found)
            row = {"task": name}
            for i, what in enumerate(("seconds", "MB")):
                before, after = ([one[i] for one in seen[side]] for side in sides)
                ratios = sorted(b / a for a, b in zip(before, after, strict=True))
                row[what] = f"{statistics.median(before):.4g} / {statistics.median(after):.4g}"
                row[f"{what} ratio"] = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
            rows.append(row)
            print(" | ".join(map(str, row.values())), flush=True)
    print("\n| | " + " | ".join(list(rows[0])[1:]) + " |\n|---|" + "---|" * (len(rows[0]) - 1))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
