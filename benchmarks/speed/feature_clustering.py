"""One training iteration of feature clustering: the textbook PyTorch form against ours, both in one run.

    python benchmarks/speed/feature_clustering.py [-o FILE.json] [--repeats 7] [--height 321 --width 481]

321x481 pixels, 100 features, 100 clusters, 2 convolutions; forward, losses, backward, SGD step, float32. Sides run in processes of
their own, in turns, so that a noisy neighbour hits all of them; the ratio is of medians.

The work, counted: 2 x (27 + 900 + 100) x 100 operations a pixel forward, three times that with both gradients (the first layer
needs no input gradient): 94 GFLOP a step. At the 160 GFLOP/s that two AVX2 cores reach here, direct convolution cannot take less
than 0.6 s. Winograd's F(4x4, 3x3) does the 100 -> 100 convolutions with a quarter of the products: 31 GFLOP in all, 0.2 s. Bytes: a
feature map is 62 MB; ours reads or writes about 40 of them a step, 2.5 GB, 0.1 s at 25 GB/s. Floor: about 0.3 s.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SIDES = {
    "textbook": "float32, contiguous, default allocator: the form of the paper's code",
    "textbook, memory kept": "the same, with freed memory kept by the process",
    "channels last, memory kept": "the same in channels-last order",
    "bf16, channels last": "autocast to bfloat16; only where the processor has it",
    "selfseg": "what `selfseg fit` runs on this device",
}


def textbook_step(channels_last: bool, bf16: bool, height: int, width: int) -> Callable[[], float]:
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 100, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(100)]
    layers += [
        nn.Conv2d(100, 100, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(100),
        nn.Conv2d(100, 100, 1),
        nn.BatchNorm2d(100),
    ]
    net, image = nn.Sequential(*layers), torch.rand(1, 3, height, width)
    if channels_last:
        net, image = net.to(memory_format=torch.channels_last), image.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            r = net(image)
            down, right = r[:, :, 1:] - r[:, :, :-1], r[:, :, :, 1:] - r[:, :, :, :-1]
            loss = F.cross_entropy(r, r.argmax(1)) + 5 * (down.abs().mean() + right.abs().mean())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_step(height: int, width: int) -> Callable[[], float]:
    import torch

    from selfseg.methods.base import build_config, find_method
    from selfseg.sample.device import choose_precision
    from selfseg.sample.stream import Sample, Stream
    from selfseg.train.loop import Training

    torch.manual_seed(0)
    config = build_config("feature_clustering", "paper", min_classes=1)
    method = find_method("feature_clustering")(config, 3)
    stream = Stream([Sample(torch.rand(3, height, width).numpy())], 1, seed=0)
    precision = choose_precision(method, torch.device("cpu"), config.iterations)
    training = Training(method, stream, precision)
    training.precision.place(method)
    optimizers, steps = method.optimizers(), iter(range(10**9))
    method.train()
    return lambda: sum(training._step(next(steps), optimizers).values())


def serve(side: str, height: int, width: int) -> None:
    """Run a step for every line on standard input, and answer with its seconds; at the end, the peak memory in bytes."""
    import contextlib

    from selfseg.core.machine import reusing_memory

    if side == "selfseg":
        step = our_step(height, width)
    else:
        step = textbook_step("channels last" in side, "bf16" in side, height, width)
    keep = side == "selfseg" or "memory kept" in side
    with reusing_memory() if keep else contextlib.nullcontext():
        for _ in sys.stdin:
            begun = time.perf_counter()
            step()
            print(time.perf_counter() - begun, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


def measure(sides: list[str], repeats: int, height: int, width: int) -> dict[str, dict]:
    command = [sys.executable, __file__, "--height", str(height), "--width", str(width), "--serve"]
    servers = {
        s: subprocess.Popen([*command, s], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for s in sides
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(repeats + 2):
        for side, server in servers.items():
            server.stdin.write("go\n")
            server.stdin.flush()
            seconds = float(server.stdout.readline())
            if round_ >= 2:  # two rounds of warm-up: compilation, caches, allocators
                times[side].append(seconds)
    results = {}
    for side, server in servers.items():
        rest, _ = server.communicate()
        values = sorted(times[side])
        results[side] = {
            "median": statistics.median(values),
            "least": values[0],
            "most": values[-1],
            "peak_bytes": int(rest.split()[-1]),
        }
    return results


def describe() -> dict[str, object]:
    import torch

    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "cpu": model,
        "capability": capability,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "commit": commit,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--height", type=int, default=321)
    parser.add_argument("--width", type=int, default=481)
    parser.add_argument("--serve", choices=SIDES)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.height, options.width)
        return
    import torch

    from selfseg.sample.device import has_fast_bf16

    sides = [side for side in SIDES if "bf16" not in side or has_fast_bf16(torch.device("cpu"))]
    machine, results = describe(), measure(sides, options.repeats, options.height, options.width)
    print(
        f"{machine}\n{options.height}x{options.width}, median (least to most) of {options.repeats} steps after 2 of warm-up"
    )
    base = results["textbook"]
    for side, row in results.items():
        spread = f"{row['median']:6.2f} s ({row['least']:.2f} to {row['most']:.2f})"
        faster, larger = base["median"] / row["median"], row["peak_bytes"] / base["peak_bytes"]
        print(f"{side:28s}{spread:26s}{faster:5.1f}x  memory {row['peak_bytes'] / 2**30:.2f} GiB = {larger:.2f}x")
    if len(sides) < len(SIDES):
        print("no bfloat16 in this processor: that side is left out (in emulation it took 16 s a step)")
    if options.out:
        options.out.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
