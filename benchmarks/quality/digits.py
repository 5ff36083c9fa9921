"""Does joint training help? Deep k-means on scikit-learn's digits, against k-means on the features of the same autoencoder.

    python benchmarks/quality/digits.py --seeds 10 -o digits.json

The method is selfseg's own, with its loop: each of the 1,797 digits is an image of one pixel with 64 channels, and encoder and
decoder are fully connected (`dense_networks.py`, handed in as a user hands in networks of their own). Both sides of a seed
share the pretrained autoencoder, and the ten clusters of both come from k-means++ with restarts and Lloyd's iterations to rest.
Labels serve for the scores alone. ARI and NMI as in scikit-learn, accuracy under the best one-to-one matching.
"""

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from selfseg.core.files import write_json
from selfseg.core.seed import derive
from selfseg.methods.base import build_config, find_method
from selfseg.sample.device import Precision
from selfseg.sample.k_means import assign_rows, k_means
from selfseg.sample.stream import Sample, Stream
from selfseg.train.loop import Training

OPTIONS = {
    "networks": "dense_networks",
    "prepare": "range",
    "n_classes": 10,
    "n_features": 10,
    "batch_size": 256,
    "pretrain_iterations": 400,
    "target_error": 0.0,
    "pretrain_rate": 0.001,
    "iterations": 400,
    "balance": 0.0,
    "scale": "total",
    "distance": 0.3,
}
"""The method's options; all others are its defaults."""

SIDES = ("pixels", "autoencoder", "joint")


def scores(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    table = np.zeros((10, 10), int)
    np.add.at(table, (labels, truth), 1)
    matched = table[linear_sum_assignment(-table)].sum()
    return {
        "ARI": float(adjusted_rand_score(truth, labels)),
        "NMI": float(normalized_mutual_info_score(truth, labels)),
        "ACC": float(matched / len(truth)),
    }


def run(seed: int, **changes: object) -> dict[str, dict[str, float]]:
    """Return the scores of k-means on the pixels, of k-means on the autoencoder's features, and of the joint training."""
    data = load_digits()
    digits, truth = (data.data / 16).astype(np.float32), data.target
    stream = Stream(
        [Sample(digit.reshape(-1, 1, 1)) for digit in digits], OPTIONS["batch_size"], derive(seed, "stream")
    )
    torch.manual_seed(derive(seed, "start"))
    method = find_method("deep_kmeans")(build_config("deep_kmeans", **{**OPTIONS, **changes}), 64, 2)
    cpu = Precision(torch.device("cpu"), bf16=False, channels_last=False, compiled=False)
    Training(method, stream, cpu, seed=derive(seed, "training")).run()
    method.finish(stream.once)
    whole = torch.from_numpy(digits.T[None, :, :, None].copy())  # [1 64 1797 1]
    labels = {
        "joint": method.assign(whole)[0, :, :, 0].argmax(0),
        "autoencoder": method.space.earlier_labels(whole)[1][0, :, 0],
    }
    rows = torch.from_numpy(digits)
    labels["pixels"] = assign_rows(rows, k_means(rows, 10, derive(seed, "pixels")).centres).labels
    return {side: scores(labels[side].numpy(), truth) for side in SIDES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], help="key=value, another value of an option")
    parser.add_argument("-o", "--out", type=Path, default=Path("digits.json"))
    options = parser.parse_args()
    changes = dict(item.split("=", 1) for item in options.set)
    rows = []
    for seed in range(options.seeds):
        rows.append(run(seed, **changes))
        shown = "  ".join(f"{side} " + " ".join(f"{v:.3f}" for v in rows[-1][side].values()) for side in SIDES)
        sys.stderr.write(f"seed {seed}: {shown}\n")
        write_json(options.out, {"options": {**OPTIONS, **changes}, "rows": rows})
    print(f"{'mean +- deviation':20s}" + "".join(f"{name:>16s}" for name in ("ARI", "NMI", "ACC")))
    for side in SIDES:
        columns = [[row[side][name] for row in rows] for name in ("ARI", "NMI", "ACC")]
        figures = [f"{statistics.mean(c):.3f} +- {statistics.pstdev(c):.3f}" for c in columns]
        print(f"{side:20s}" + "".join(f"{figure:>16s}" for figure in figures))


if __name__ == "__main__":
    main()
