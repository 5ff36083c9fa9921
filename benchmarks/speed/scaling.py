"""How much faster two processes predict a large image than one, on a Dask cluster of this machine, one thread each.

    python benchmarks/speed/scaling.py -o scaling.json

Both sides in one run, in turns; workers are warm (kernels compiled, packages imported). Seconds are those of `segment_stored`, with
all that only the client does: opening, noting, counting the areas, the small picture. Where others use the machine too, these say
little; processor seconds of the busiest worker are what the clock would show at best if nothing else ran.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

os.environ |= {"SELFSEG_THREADS": "1", "OMP_NUM_THREADS": "1"}

from big_image import make_image

from selfseg.segmenting.executors import DaskCluster


def seconds_of(model: object, path: Path, out: Path, cluster: DaskCluster, memory: int) -> tuple[float, float]:
    """Return seconds on the clock, and processor seconds of the worker that has most of them."""
    from selfseg.read import open_lazy
    from selfseg.segmenting.images import Settings, segment_stored

    before, begun = cluster.processor_seconds(), time.perf_counter()
    with open_lazy(path, "YX") as image:
        segment_stored(model.fitted, image, out, Settings(memory), cluster)
    taken, after = time.perf_counter() - begun, cluster.processor_seconds()
    return taken, max(after[worker] - before.get(worker, 0.0) for worker in after)


def main() -> None:
    import selfseg
    from selfseg.core.machine import parse_bytes
    from selfseg.read import open_lazy

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--side", type=int, default=2816)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory", default="1GB", help="of each process")
    args = parser.parse_args()
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for side in (512, args.side):
            make_image(folder / f"{side}.zarr", side)
        with open_lazy(folder / "512.zarr", "YX") as image:  # what it has learned changes nothing in the time
            corner = image.data[:96, :96]
        model = selfseg.fit(corner, preset="full", n_classes=8, options={"iterations": 5})
        memory = parse_bytes(args.memory)
        counts = (1, args.processes)
        with contextlib.ExitStack() as opened:
            clusters = {n: opened.enter_context(DaskCluster(f"local:{n}")) for n in counts}
            for cluster in clusters.values():
                for _ in range(2):
                    seconds_of(model, folder / "512.zarr", folder / "warm", cluster, memory)
            for number in range(args.rounds):
                for n, cluster in clusters.items():
                    out = folder / f"out-{n}-{number}"
                    taken, busy = seconds_of(model, folder / f"{args.side}.zarr", out, cluster, memory)
                    rows.append({"processes": n, "seconds": taken, "busiest": busy, "load": os.getloadavg()[0]})
                    print(
                        f"{n} process(es) {taken:7.1f} s   processor {busy:5.1f} s   load {os.getloadavg()[0]:.1f}",
                        flush=True,
                    )
    many, faster = args.processes, {}
    for what in ("seconds", "busiest"):
        best = {n: min(row[what] for row in rows if row["processes"] == n) for n in counts}
        faster[what] = best[1] / best[many]
        print(f"{args.side} x {args.side}, {what}: {best[1]:.1f} s, {best[many]:.1f} s: {faster[what]:.2f}x")
    facts = {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "side": args.side, "rows": rows}
    facts |= {"memory": args.memory, "faster": faster}
    facts["commit"] = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    if args.out:
        args.out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
