"""Superpixel pooling and the losses on the superpixel graph, with gradients: one list of pixels a superpixel against ours, in one run.

    python benchmarks/speed/superpixels.py [-o FILE.json] [--repeats 15] [--threads N]

Float32 on a CPU; superpixels are the cells of a regular grid, features are in the memory order in which the networks give them
(channels last). Every side answers the same task and must agree; times are medians with least and most, after a warm-up, the
sides in turns.

`loop` is the formulation in use: the mean of each superpixel is taken from its own list of pixels, so that the backward pass
adds a whole map for each of them. `index_add` is one call of torch. The whole set of losses is timed for our side alone at 13,000
superpixels: the loop does not end within ten minutes there.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from soft_ncut import describe

from selfseg.losses.clustering import neighbour_weights, region_continuity, similarity
from selfseg.losses.soft_ncut import region_affinity, soft_ncut
from selfseg.nets.region_pool import RegionMap, region_map, region_mean
from selfseg.regions.graph import adjacency
from selfseg.regions.slic import grid_cells, grid_counts

K = 32
POOLING = (240, 360), 1_500
LOSSES = (480, 720), 13_000


def grid(shape: tuple[int, int], n: int) -> np.ndarray:
    return grid_cells(shape, grid_counts(shape, n, [1, 1]))


def features(shape: tuple[int, int]) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(1, K, *shape, generator=draw).contiguous(memory_format=torch.channels_last).requires_grad_()


def by_loop(x: torch.Tensor, pixels: list[torch.Tensor]) -> torch.Tensor:
    flat = x.flatten(2)
    return torch.stack([flat[:, :, each].mean(2) for each in pixels], 2)


def by_index_add(x: torch.Tensor, regions: RegionMap) -> torch.Tensor:
    sums = x.new_zeros(1, K, regions.n_regions).index_add(2, regions.labels.flatten(), x.flatten(2))
    return sums / regions.sizes


def pooling_sides() -> dict[str, Callable[[], torch.Tensor]]:
    labels, x = grid(*POOLING), features(POOLING[0])
    regions = region_map(labels)
    pixels = [torch.from_numpy(np.flatnonzero(labels.ravel() == r)) for r in range(regions.n_regions)]
    gradient = torch.randn(1, K, regions.n_regions, generator=torch.Generator().manual_seed(1))

    def forward_and_backward(pool: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def step() -> torch.Tensor:
            x.grad = None
            pool().backward(gradient)
            return x.grad

        return step

    sides = {
        "loop": lambda: by_loop(x, pixels),
        "index_add": lambda: by_index_add(x, regions),
        "selfseg": lambda: region_mean(x, regions),
    }
    return {name: forward_and_backward(pool) for name, pool in sides.items()}


def losses_side() -> tuple[dict[str, Callable[[], torch.Tensor]], int]:
    """Return the terms one by one and all together, with their gradients, and the number of edges."""
    labels, x = grid(*LOSSES), features(LOSSES[0])
    regions, graph = region_map(labels), adjacency(labels)
    edges = torch.from_numpy(graph.edges).long()
    distances = torch.rand(len(edges), generator=torch.Generator().manual_seed(2))
    neighbours = neighbour_weights(edges, distances, regions.n_regions, 1.0)
    affinity = region_affinity(edges, distances, regions.n_regions)

    def cut(means: torch.Tensor) -> torch.Tensor:
        return soft_ncut(means.softmax(1), affinity) / K

    def alike(means: torch.Tensor) -> torch.Tensor:
        return similarity(x, means.detach().argmax(1)[:, regions.labels])

    def near(means: torch.Tensor) -> torch.Tensor:
        return region_continuity(means, neighbours)

    def with_gradient(terms: tuple[Callable[[torch.Tensor], torch.Tensor], ...]) -> Callable[[], torch.Tensor]:
        def step() -> torch.Tensor:
            x.grad = None
            means = region_mean(x, regions)
            torch.stack([term(means) for term in terms]).sum().backward()
            return x.grad

        return step

    parts = {"cut": (cut,), "similarity": (alike,), "continuity": (near,), "all": (cut, alike, near)}
    return {name: with_gradient(terms) for name, terms in parts.items()}, len(edges)


def measure(sides: dict[str, Callable[[], torch.Tensor]], repeats: int, agree: bool) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    answers = {}
    for turn in range(repeats + 2):
        for name, step in sides.items():
            if name == "loop" and turn > 4:  # a second each
                continue
            begun = time.perf_counter()
            answers[name] = step().clone()
            if turn >= 2:
                times[name].append(time.perf_counter() - begun)
    if agree:
        for answer in answers.values():
            torch.testing.assert_close(answer, answers["loop"], rtol=1e-4, atol=1e-6)
    return {
        name: {"median": statistics.median(each), "least": min(each), "most": max(each)} for name, each in times.items()
    }


def floor() -> float:
    """Return the bandwidth of a copy, in bytes a second."""
    a, b = np.ones(2**22, np.float32), np.empty(2**22, np.float32)
    seconds = []
    for _ in range(30):
        begun = time.perf_counter()
        b[:] = a
        seconds.append(time.perf_counter() - begun)
    return 2 * a.nbytes / min(seconds)


def show(title: str, rows: dict[str, dict[str, float]], base: str | None, least: float) -> None:
    print(f"{title}\n    floor: {1e3 * least:.2f} ms of memory traffic")
    for name, row in rows.items():
        text = f"{1e3 * row['median']:.2f} ms ({1e3 * row['least']:.2f} to {1e3 * row['most']:.2f})"
        faster = "" if base is None else f"{rows[base]['median'] / row['median']:9.1f}x"
        print(f"    {name:12s}{text:36s}{faster}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["SELFSEG_THREADS"] = str(options.threads)
    report: dict[str, object] = {"machine": describe(), "bandwidth": floor()}
    print(report["machine"])
    pixels = POOLING[0][0] * POOLING[0][1]
    # Read the map, write its gradient; labels once each way.
    moved = 4 * pixels * (2 * K + 4)
    pooled = measure(pooling_sides(), options.repeats, agree=True)
    show(
        f"pooling, forward and backward, {POOLING[0]}, {K} channels, {POOLING[1]} superpixels: "
        f"{2 * K * pixels / 1e6:.1f} M additions and copies, {moved / 2**20:.1f} MiB",
        pooled,
        "loop",
        moved / report["bandwidth"],
    )
    steps, n_edges = losses_side()
    terms = measure(steps, options.repeats, agree=False)
    pixels = LOSSES[0][0] * LOSSES[0][1]
    # Pooling, then cross entropy forward (read) and backward (read, write), then the two gradients are added (read twice, write).
    moved = 4 * pixels * (2 * K + 3 * K + 3 * K + 8)
    show(
        f"losses with gradients, {LOSSES[0]}, {K} channels, {LOSSES[1]} superpixels, {n_edges} edges: "
        f"{2 * K * pixels / 1e6:.1f} M exponentials, {moved / 2**20:.0f} MiB",
        terms,
        None,
        moved / report["bandwidth"],
    )
    report |= {"pooling": pooled, "losses": terms}
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
