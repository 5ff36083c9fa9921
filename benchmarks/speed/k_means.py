"""How fast is k-means on many rows? Ours against scikit-learn's MiniBatchKMeans, on the same rows, in turns, in one run.

    python benchmarks/speed/k_means.py --rows 10000000 --features 64 --clusters 8 --threads 2

Rows are float32, drawn around as many middles as there are clusters, 2.6 GB for ten million of 64 features. Each side clusters all
rows and labels all rows: ours by seeds and mini-batches (k-means++ with 3 restarts on 16,384 rows, one pass by mini-batch, labels and
inertia of all rows), theirs by `fit` (3 starts; it stops when it finds no improvement; `labels_` of all rows) and, as the origin of
deep k-means uses it, by one pass of `partial_fit` in pieces of 65,536 rows and `predict`. The largest side runs first, so that
memory is warm for ours no more than for theirs. The inertia (mean squared distance of all rows) shows that they solve the same.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PIECE = 1 << 16
SEEDING_ROWS = 1 << 14


def drawn(n: int, features: int, clusters: int) -> np.ndarray:
    """Rows around `clusters` middles that overlap, filled piece by piece so that no second copy is made."""
    rng = np.random.default_rng(0)
    middles = rng.normal(0, 0.5, (clusters, features)).astype(np.float32)
    rows = np.empty((n, features), np.float32)
    for first in range(0, n, PIECE):
        part = rows[first : first + PIECE]
        rng.standard_normal(out=part, dtype=np.float32)
        part += middles[rng.integers(0, clusters, len(part))]
    return rows


def inertia(rows: np.ndarray, centres: np.ndarray, labels: np.ndarray) -> float:
    pieces = range(0, len(rows), PIECE)
    total = sum(
        float(np.square(rows[i : i + PIECE] - centres[labels[i : i + PIECE]]).sum(dtype=np.float64)) for i in pieces
    )
    return total / len(rows)


def sides(rows: np.ndarray, clusters: int) -> dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]]:
    import torch
    from sklearn.cluster import MiniBatchKMeans

    from selfseg.core.seed import generator
    from selfseg.sample.k_means import assign_rows, k_means, moved_centres

    def fit(seed: int) -> tuple[np.ndarray, np.ndarray]:
        model = MiniBatchKMeans(clusters, n_init=3, random_state=seed).fit(rows)
        return model.cluster_centers_, model.labels_

    def passed(seed: int) -> tuple[np.ndarray, np.ndarray]:
        model = MiniBatchKMeans(clusters, n_init=3, random_state=seed)
        for first in range(0, len(rows), PIECE):
            model.partial_fit(rows[first : first + PIECE])
        return model.cluster_centers_, model.predict(rows)

    def ours(seed: int) -> tuple[np.ndarray, np.ndarray]:
        tensor = torch.from_numpy(rows)
        chosen = generator(seed, "sample").integers(0, len(rows), min(len(rows), SEEDING_ROWS))
        start = k_means(tensor[torch.from_numpy(chosen)], clusters, seed, restarts=3)
        centres, counts = start.centres, torch.zeros_like(start.mass)
        pieces = tensor.split(PIECE)
        for i in generator(seed, "pass").permutation(len(pieces)):
            centres, counts = moved_centres(centres, counts, assign_rows(pieces[i], centres), None)
        return centres.numpy(), assign_rows(tensor, centres).labels.numpy()

    return {"MiniBatchKMeans.fit": fit, "one pass of partial_fit": passed, "selfseg": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--clusters", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", default="MiniBatchKMeans.fit,one pass of partial_fit,selfseg")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    os.environ["SELFSEG_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(options.threads)
    small = drawn(70_000, options.features, options.clusters)
    chosen = options.sides.split(",")
    with threadpool_limits(options.threads):
        for name in chosen:
            sides(small, options.clusters)[name](0)  # compile and load
        rows = drawn(options.rows, options.features, options.clusters)
        runs = sides(rows, options.clusters)
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        errors: dict[str, list[float]] = {name: [] for name in chosen}
        for seed in range(options.repeats):
            for name in chosen:
                begun = time.perf_counter()
                centres, labels = runs[name](seed)
                seconds[name].append(time.perf_counter() - begun)
                errors[name].append(inertia(rows, centres, labels))
                sys.stderr.write(f"{name}: {seconds[name][-1]:.2f} s, inertia {errors[name][-1]:.4f}\n")
    machine = {"processor": platform.processor(), "threads": options.threads, "load": os.getloadavg()[0]}
    print(f"{options.rows:,} x {options.features}, {options.clusters} clusters, {machine}")
    slowest = statistics.median(seconds[chosen[0]])
    for name in chosen:
        middle = statistics.median(seconds[name])
        times = f"{middle:.2f} s ({min(seconds[name]):.2f} to {max(seconds[name]):.2f})"
        print(f"{name:26s}{times:30s}{slowest / middle:6.1f}x   inertia {statistics.median(errors[name]):.4f}")
    if options.out:
        report = {"machine": machine, "seconds": seconds, "inertia": errors}
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
