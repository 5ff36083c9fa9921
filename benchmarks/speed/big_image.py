"""Prediction of images larger than memory: time and peak memory over the side of the image, whole against in parts.

    python benchmarks/speed/big_image.py [-o FILE.json] [--sides 2000,5000,10000] [--features 100] [--memory 2GB] [--folder DIR]

A uint8 image of one channel, made on the fly as a zarr of 1024 x 1024 chunks: discs of many sizes on an uneven ground, with noise.
The model is feature clustering with 100 features and clusters (or `--features`), preset full, eight classes, learned from its first
512 x 512 pixels. Every prediction runs in a process of its own; its peak is the resident memory of that whole process, torch included, as
the system tells its parent when it ends. "whole" is the image read and predicted in memory (only where it fits); "in parts" is what
`selfseg predict --memory` does, labels written to a zarr. Time is from the opened image to the last block; it should grow like the
number of pixels. Where others use the machine too, compare processor seconds a megapixel: user and system time of all threads.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WHOLE_UP_TO = 2000
CHUNK = 1024


def make_image(path: Path, side: int) -> None:
    import numpy as np
    import zarr

    array = zarr.create_array(path, shape=(side, side), chunks=(CHUNK, CHUNK), dtype="u1")
    y, x = np.mgrid[:CHUNK, :CHUNK].astype(np.float32)
    for top in range(0, side, CHUNK):
        for left in range(0, side, CHUNK):
            rng = np.random.default_rng([top, left])
            tone = 60 + 20 * np.sin((x + left) / 300) * np.cos((y + top) / 400)
            for _ in range(40):
                cy, cx, radius = rng.uniform(0, CHUNK), rng.uniform(0, CHUNK), rng.uniform(5, 60)
                tone[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.choice([110, 150, 200])
            tile = np.clip(tone + rng.normal(0, 6, tone.shape), 0, 255).astype(np.uint8)
            array[top : top + CHUNK, left : left + CHUNK] = tile[: side - top, : side - left]


def one(folder: Path, side: int, how: str, memory: str) -> None:
    """Predict one image in this process, and print its seconds."""
    import selfseg
    from selfseg.core.machine import parse_bytes
    from selfseg.read import open_lazy
    from selfseg.segmenting.images import Settings, segment_stored

    model = selfseg.load(folder / "model")
    image = open_lazy(folder / f"{side}.zarr", "YX")
    used = resource.getrusage(resource.RUSAGE_SELF)
    begun, before = time.perf_counter(), used.ru_utime + used.ru_stime
    if how == "whole":
        model.predict(image.data[...])
    else:
        segment_stored(model.fitted, image, folder / "out", Settings(parse_bytes(memory)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds, cpu = time.perf_counter() - begun, used.ru_utime + used.ru_stime - before
    print(json.dumps({"seconds": seconds, "cpu": cpu}))


def learn(folder: Path, path: Path, features: int) -> None:
    import selfseg
    from selfseg.read import open_lazy

    corner = open_lazy(path, "YX").data[:512, :512]
    options = {"iterations": 20, "n_features": features, "n_clusters": features}
    selfseg.fit(corner, preset="full", n_classes=8, options=options).save(folder / "model")


def measured(command: list[str]) -> dict[str, float]:
    """Run a process; return what it prints, and its peak as the system counts it."""
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        printed.seek(0)
        return {**json.loads(printed.read().splitlines()[-1]), "peak": used.ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--sides", default="2000,5000,10000")
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "HOW"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.folder, int(args.one[0]), args.one[1], args.memory)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        rows = []
        for side in (int(text) for text in args.sides.split(",")):
            path = folder / f"{side}.zarr"
            if not path.exists():
                make_image(path, side)
            if not (folder / "model").exists():
                learn(folder, path, args.features)
            for how in ("whole", "in parts") if side <= WHOLE_UP_TO else ("in parts",):
                command = [sys.executable, __file__, "--folder", str(folder), "--memory", args.memory]
                rows.append({"side": side, "how": how, **measured([*command, "--one", str(side), how])})
                print(describe(rows[-1]), flush=True)
    facts = {
        "features": args.features,
        "memory": args.memory,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "rows": rows,
    }
    facts["commit"] = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    if args.out:
        args.out.write_text(json.dumps(facts, indent=2) + "\n")


def describe(row: dict) -> str:
    megapixels = row["side"] ** 2 / 1e6
    return (
        f"{row['side']:6} x {row['side']:<6} {row['how']:9} {row['seconds']:8.1f} s   {megapixels / row['seconds']:6.2f} Mpx/s"
        f"   processor {row['cpu'] / megapixels:5.2f} s/Mpx   peak {row['peak'] / 1e9:5.2f} GB"
    )


if __name__ == "__main__":
    main()
