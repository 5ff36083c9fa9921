"""Value and gradient of the soft normalised cut: the formulations in use against ours, all in one run.

    python benchmarks/speed/soft_ncut.py [-o FILE.json] [--repeats 15] [--threads N]

Float32, on a CPU unless told otherwise, one grey image in 0..255, sigma_I = 10, sigma_X = 4; weights are computed in the step, as
for a new batch, except where a side says otherwise. Sides run in processes of their own, in turns, so that a noisy neighbour hits
all of them; the ratio is of medians, and of least times. With `--threads 1` nobody waits for another thread: that is the fairer
ratio on a busy machine, where torch's many small operations wait most. Memory is what a step needs beyond its inputs, in a further
process each. All sides must give the same value.

The work, counted for N pixels, K classes and T pairs a pixel (34 in the disc of radius 5, 46 in the ball of radius 3): 4 N K T
operations for ``W p`` (a product and a sum, both ways), about 20 N T for the weights. State moved: p is read, ``W p`` written and
read, the gradient written: 16 N K bytes. 224x224, K = 20: 136 + 34 MFLOP, 16 MB. The floor that the program prints takes 16
fused products a cycle on each core (one 512-bit register, or two of 256 bits), the clock as measured, and the bandwidth that a copy
reaches here. `--device cuda` times all sides on a GPU (ours by Triton), without that floor.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

CASES = {
    "224x224, r=5, K=4": ((224, 224), 5, 4),
    "224x224, r=5, K=20": ((224, 224), 5, 20),
    "64x64x64, r=3, K=4": ((64, 64, 64), 3, 4),
}
SIDES = {
    "unfold": "windows of all pixels and classes unfolded: the formulation of the public versions, with the border mended",
    "half-plane": "a loop over one offset of each pair, with automatic differentiation",
    "selfseg": "a new image at each step",
    "selfseg, same image": "the affinity is kept from step to step",
}
SIGMA_I, SIGMA_X = 10.0, 4.0
DEVICE = os.environ.get("NCUT_DEVICE", "cpu")  # also of the processes that this one starts


def inputs(shape: tuple[int, ...], n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    smooth = torch.rand(1, 1, *(n // 8 for n in shape), generator=draw)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    image = 255 * F.interpolate(smooth, shape, mode=mode) + 3 * torch.randn(1, 1, *shape, generator=draw)
    return image, torch.randn(1, n_classes, *shape, generator=draw).softmax(1)


def unfolded(image: torch.Tensor, p: torch.Tensor, radius: int) -> torch.Tensor:
    size, n_classes = 2 * radius - 1, p.shape[1]
    margin, n = radius - 1, image.shape[2] * image.shape[3]
    offsets = torch.arange(size, device=image.device) - margin
    squared = (offsets[:, None] ** 2 + offsets[None] ** 2).float()
    near = (-squared / SIGMA_X**2).exp() * (squared < radius**2)  # [size size]
    windows = F.unfold(image, size, padding=margin)  # [1 size^2 N]
    inside = F.unfold(torch.ones_like(image), size, padding=margin)
    w = (-((windows - image.reshape(1, 1, n)) ** 2) / SIGMA_I**2).exp() * near.reshape(1, -1, 1) * inside
    around = F.unfold(p, size, padding=margin).reshape(n_classes, size**2, n)
    flat = p.reshape(n_classes, n)
    association = (flat * (around * w).sum(1)).sum(1)
    volume = (flat * w.sum(1)).sum(1)
    return n_classes - (association / volume).sum()


def half_plane(image: torch.Tensor, p: torch.Tensor, radius: int) -> torch.Tensor:
    shape = image.shape[2:]
    reach = range(1 - radius, radius)
    association, degrees = p.square().flatten(2).sum(2), torch.ones_like(image)
    for offset in torch.cartesian_prod(*[torch.tensor(reach)] * len(shape)).tolist():
        squared = sum(n * n for n in offset)
        if offset <= [0] * len(shape) or squared >= radius**2:
            continue
        here = (..., *(slice(max(-n, 0), size - max(n, 0)) for n, size in zip(offset, shape, strict=True)))
        there = (..., *(slice(max(n, 0), size - max(-n, 0)) for n, size in zip(offset, shape, strict=True)))
        w = (-((image[here] - image[there]) ** 2) / SIGMA_I**2 - squared / SIGMA_X**2).exp()
        association = association + 2 * (w * p[here] * p[there]).flatten(2).sum(2)
        degrees[here] += w
        degrees[there] += w
    volume = (p * degrees).flatten(2).sum(2)
    return p.shape[1] - (association / volume).sum()


def prepare(side: str, shape: tuple[int, ...], radius: int, n_classes: int) -> Callable[[], float]:
    from selfseg.losses import soft_ncut, window_affinity

    image, p = (tensor.to(DEVICE) for tensor in inputs(shape, n_classes))
    p.requires_grad_()
    kept = window_affinity(image, radius, SIGMA_I, SIGMA_X)
    losses = {
        "unfold": lambda: unfolded(image, p, radius),
        "half-plane": lambda: half_plane(image, p, radius),
        "selfseg": lambda: soft_ncut(p, window_affinity(image, radius, SIGMA_I, SIGMA_X)),
        "selfseg, same image": lambda: soft_ncut(p, kept),
    }

    def step() -> float:
        p.grad = None
        loss = losses[side]()
        loss.backward()
        return loss.item()

    return step


def serve(side: str, case: str) -> None:
    """Run a step for every line on standard input, and answer with its seconds and its value."""
    from selfseg.core.machine import reusing_memory

    step = prepare(side, *CASES[case])
    with reusing_memory():
        for _ in sys.stdin:
            begun = time.perf_counter()
            value = step()
            print(time.perf_counter() - begun, value, flush=True)


def status(field: str) -> int:
    """Return a figure of this process out of /proc, in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def weigh(side: str, case: str) -> None:
    """Print the bytes that the first full step takes beyond its inputs, after a small one that loads and compiles."""
    shape, radius, n_classes = CASES[case]
    prepare(side, (16,) * len(shape), radius, n_classes)()
    step = prepare(side, shape, radius, n_classes)
    if DEVICE != "cpu":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        print(torch.cuda.max_memory_allocated() - held)
        return
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    print(status("VmHWM") - before)


def sides_of(case: str) -> list[str]:
    return [side for side in SIDES if side != "unfold" or len(CASES[case][0]) == 2]  # torch unfolds images only


def measure(case: str, repeats: int, threads: int) -> dict[str, dict[str, float]]:
    sides, command = sides_of(case), [sys.executable, __file__, "--case", case, "--threads", str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    servers = {side: subprocess.Popen([*command, "--serve", side], **pipes) for side in sides}
    answers: dict[str, list[list[float]]] = {side: [] for side in sides}
    for _ in range(repeats + 3):
        for side, server in servers.items():
            server.stdin.write("go\n")
            server.stdin.flush()
            answers[side].append([float(word) for word in server.stdout.readline().split()])
    results = {}
    for side, server in servers.items():
        server.communicate()
        seconds = sorted(seconds for seconds, _ in answers[side][3:])  # three rounds of warm-up
        weighed = subprocess.run([*command, "--weigh", side], capture_output=True, text=True, check=True)
        results[side] = {
            "median": statistics.median(seconds),
            "least": seconds[0],
            "most": seconds[-1],
            "bytes": int(weighed.stdout),
            "value": answers[side][-1][1],
        }
    values = [row["value"] for row in results.values()]
    if max(values) - min(values) > 1e-3:
        raise SystemExit(f"the sides disagree: {values}")
    return results


def floor(case: str) -> dict[str, float]:
    """Return the seconds that arithmetic and memory traffic take at the least, at this clock and this bandwidth."""
    shape, radius, K = CASES[case]
    N = torch.Size(shape).numel()
    T = {(2, 5): 34, (3, 3): 46}[len(shape), radius]
    lanes = 16 if "512" in torch.backends.cpu.get_cpu_capability() else 8
    cores = torch.get_num_threads()
    cycles = N * T * (2 * K + 10) / lanes / cores * (1 if lanes == 16 else 0.5)
    a, b = torch.rand(2**22).numpy(), torch.rand(2**22).numpy()
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        b[:] = a
        times.append(time.perf_counter() - begun)
    bandwidth = 2 * a.nbytes / min(times)
    return {"arithmetic": cycles / (clock() * 1e9), "memory": 16 * N * K / bandwidth, "GB/s": bandwidth / 1e9}


def clock() -> float:
    """Return the clock in GHz: a chain of integer sums takes a cycle each."""
    from numba import njit

    @njit
    def chain(n: int, x: int) -> int:
        for i in range(n):
            x = (x ^ i) + 1  # two cycles: neither the compiler nor the processor can shorten it
        return x

    chain(10, 1)
    times = []
    for _ in range(300):  # short, so that some of them run undisturbed
        begun = time.perf_counter()
        chain(100_000, 1)
        times.append(time.perf_counter() - begun)
    return 2 * 100_000 / min(times) / 1e9


def describe() -> dict[str, object]:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), "")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "cpu": model or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock_GHz": round(clock(), 2),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--serve", choices=SIDES)
    parser.add_argument("--weigh", choices=SIDES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default=DEVICE)
    options = parser.parse_args()
    os.environ["NCUT_DEVICE"] = options.device
    torch.set_num_threads(options.threads)
    os.environ["SELFSEG_THREADS"] = str(options.threads)
    if options.serve:
        return serve(options.serve, options.case)
    if options.weigh:
        return weigh(options.weigh, options.case)
    report: dict[str, object] = {"machine": describe()}
    print(report["machine"])
    for case in [options.case] if options.case else CASES:
        rows = measure(case, options.repeats, options.threads)
        least = floor(case) if options.device == "cpu" else None
        report[case] = {"sides": rows, "floor": least}
        base = rows[sides_of(case)[0]]
        print(f"{case}: median (least to most) of {options.repeats}; ratio of medians, and of least times")
        if least is not None:
            work, traffic = 1e3 * least["arithmetic"], 1e3 * least["memory"]
            print(
                f"    floor: {work:.2f} ms of arithmetic, {traffic:.2f} ms of memory traffic at {least['GB/s']:.0f} GB/s"
            )
        for side, row in rows.items():
            times = f"{1e3 * row['median']:.2f} ms ({1e3 * row['least']:.2f} to {1e3 * row['most']:.2f})"
            faster, fastest = base["median"] / row["median"], base["least"] / row["least"]
            memory = f"{row['bytes'] / 2**20:.1f} MiB = {row['bytes'] / base['bytes']:.3f}x"
            print(f"    {side:22s}{times:34s}{faster:7.1f}x {fastest:7.1f}x  {memory}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
