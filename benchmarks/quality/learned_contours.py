"""Contours with and without learning, and one codebook over frozen features, on photographs: paired scores.

    python benchmarks/quality/learned_contours.py --data DATA -o OUT
    python benchmarks/quality/learned_contours.py --data DATA -o OUT --rows dino=contours:learned --features facebook/dinov2-small

Every row is a model that is fitted once on photos of train (the same for all rows, drawn by a seed) and kept in OUT; then it segments
the photos of a split that it has not seen. A row is ``NAME=METHOD`` or ``NAME=METHOD:PRESET``; `--features` names the frozen network of
rows that have one. The first row is what the others are paired with.

ODS and OIS choose the level by the truth. The others are outputs that a user gets: ``regions`` is the tree cut at the model's level (or
the connected parts of the classes), with PRI, VI and boundary F, ``flat`` are the classes, with ``parts``, their connected parts, and
``own flat`` the classes of a codebook of the photo alone, which a model that is fitted on one photo has.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from label_free_images import load
from label_free_tables import paired_error

import selfseg
from selfseg import measure
from selfseg.core.progress import Silent
from selfseg.methods._regions import RegionMethod
from selfseg.methods.base import find_method
from selfseg.regions.clusters import codebook
from selfseg.regions.graph import connected_components

ROWS = "contours=contours,learned=contours:learned"
LEVELS = np.geomspace(0.05, 4.0, 64)
SEED = 7
"""Of the draw of training photos."""

NAMES = (
    *("covering ODS", "OIS", "PRI ODS", "PRI OIS", "VI ODS", "VI OIS", "regions", "PRI", "VI", "F"),
    *("flat", "parts", "own flat", "seconds", "n regions", "n classes"),
)


class Lines(Silent):
    """Print what a fit says."""

    def say(self, message: str) -> None:
        """Print a line."""
        print(message, flush=True)


def photos_of(data: Path, split: str, count: int | None) -> list[Path]:
    """Return the photos of a split; `count` of them, drawn by the seed."""
    paths = sorted((data / "bsds500" / "images" / split).glob("*.jpg"))
    if count is None:
        return paths
    return [paths[i] for i in np.random.default_rng(SEED).permutation(len(paths))[:count]]


def fitted(row: str, options: argparse.Namespace) -> tuple[str, selfseg.Segmenter]:
    """Return the name of a row and its model, from OUT if it is there."""
    name, _, call = row.partition("=")
    method, _, preset = call.partition(":")
    folder = options.out / name
    if (folder / "config.json").exists():
        return name, selfseg.load(folder)
    own = (
        {"features": options.features}
        if "features" in find_method(method).Config.model_fields and options.features
        else {}
    )
    begun, wall = time.process_time(), time.perf_counter()
    model = selfseg.Segmenter(method, preset=preset or "default", options=own, seed=options.seed)
    model.fit([str(path) for path in photos_of(options.data, "train", options.photos)], out=folder, progress=Lines())
    print(
        f"{name}: fitted in {time.process_time() - begun:.0f} s of processor time, {time.perf_counter() - wall:.0f} s",
        flush=True,
    )
    return name, model


def scores_of(model: selfseg.Segmenter, path: Path) -> dict[str, np.ndarray]:
    """Return the scores of one photo: at each level ``[3 L]`` (covering, PRI, VI), and of the outputs ``[10]``."""
    rgb, truths = load("bsds500", path)
    method = model.model_.method
    begun = time.process_time()
    if isinstance(method, RegionMethod):
        image, memo = torch.from_numpy(np.moveaxis(rgb, -1, 0) / np.float32(255)), {}
        labels = method.assign(image[None], [memo])[0].argmax(0).numpy()
        superpixels, tree, _ = method.segments(image, None, memo)
        seconds = time.process_time() - begun
        regions, mean, share = method._regions(image, None, memo)
        book = codebook(mean, share, None, method.config.explained, method.config.max_classes)
        own = ((mean[:, None] - book) ** 2).sum(-1).argmin(1)[regions]
    else:
        result = model.predict(rgb)
        seconds = time.process_time() - begun
        labels, superpixels, tree = result.labels, result.hierarchy.superpixels, result.hierarchy.tree
        regions = connected_components(labels)
        own = (
            selfseg.Segmenter(model.method, options=method.config.model_dump(), refine=model.refine)
            .fit(rgb)
            .predict(rgb)
            .labels
        )
    found = measure.tree_scores(superpixels, tree.parents, tree.altitudes, list(truths), LEVELS)
    one = measure.score(regions, list(truths)).row()
    chosen = [one[key] for key in ("covering", "probabilistic_rand_index", "variation_of_information", "boundary_f")]
    for classes in (labels, connected_components(labels), own):
        chosen.append(measure.kinds.region_kind(classes, list(truths)).row()["covering"])
    chosen += [seconds, len(np.unique(regions)), len(np.unique(labels))]
    return {"levels": np.stack([found.covering, found.rand, found.variation]), "one": np.array(chosen)}


def table(rows: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """Print means over photos, then differences to the first row, paired, with their standard errors."""
    figures = {}
    for name, photos in rows.items():
        levels, one = (np.stack([photo[key] for photo in photos]) for key in ("levels", "one"))
        covering, rand, variation = np.moveaxis(levels, 1, 0)
        columns = [covering[:, covering.mean(0).argmax()], covering.max(1), rand[:, rand.mean(0).argmax()], rand.max(1)]
        columns += [variation[:, variation.mean(0).argmin()], variation.min(1), *one.T]
        figures[name] = np.stack(columns, 1)
        print(f"{name}: best level of all photos {LEVELS[covering.mean(0).argmax()]:.3f}")
    first = next(iter(figures))
    print(f"\n{len(figures[first])} photos\n\n| | " + " | ".join(NAMES) + " |\n|" + "---|" * (len(NAMES) + 1))
    for name, values in figures.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values.mean(0)) + " |")
    for name, values in figures.items():
        if name != first:
            less = values - figures[first]
            cells = (f"{column.mean():+.3f} ({paired_error(column):.3f})" for column in less.T)
            print(f"| {name} less {first} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--rows", default=ROWS)
    parser.add_argument("--features", default="")
    parser.add_argument("--photos", type=int, default=140, help="training photos")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows: dict[str, list[dict[str, np.ndarray]]] = {}
    for row in options.rows.split(","):
        name, model = fitted(row, options)
        kept = options.out / f"{name}-{options.split}.npy"
        done = np.load(kept, allow_pickle=True).tolist() if kept.exists() else []
        for path in photos_of(options.data, options.split, options.limit)[len(done) :]:
            done.append(scores_of(model, path))
        np.save(kept, np.array(done, dtype=object), allow_pickle=True)
        rows[name] = done
    table(rows)


if __name__ == "__main__":
    main()
