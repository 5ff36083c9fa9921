"""One level for all photos, or one that follows the photo? Two families, one rule for each, paired with fixed levels.

    python benchmarks/quality/own_level.py --data DATA --split val --family tree

Both rules, form and constants, were chosen on train.

- Tree of `region_merging`: cut where merges cost more than SCALE * median ** POWER, the median over all merges of the photo's
  tree. Power 0 is one level for all, power 1 a fixed multiple of the photo's own median.
- Felzenszwalb: of nine scales, the one nearest to scale ** (1 - SHARE) = regions ** SHARE. Share 0 is one scale for all,
  share 1 one number of regions for all.
"""

import argparse
from pathlib import Path

import numpy as np
from label_free_images import FELZENSZWALB, felzenszwalb_scales, load, tree_of
from label_free_tables import paired_error

from selfseg import measure

SCALE, POWER = 10.5, 0.3
SHARE = 0.6
FIXED = {"tree": 9.0, "felzenszwalb": 600.0}
"""The best fixed levels on train."""

GRID = tuple(np.geomspace(4, 20, 25))
"""Fixed levels of the tree among which the best of the other half of the photos is sought."""


def tree_level(altitudes: np.ndarray) -> float:
    """Return the level that the rule gives for the merges' altitudes ``[R-1]``."""
    return SCALE * float(np.median(altitudes)) ** POWER


def felzenszwalb_level(regions: np.ndarray) -> int:
    """Return the place of the scale that the rule gives for the numbers of regions at all scales ``[L]``."""
    return int(np.abs((1 - SHARE) * np.log(FELZENSZWALB) - SHARE * np.log(regions)).argmin())


def scores(path: Path, family: str) -> np.ndarray:
    """Return covering, PRI and -VI (bits) and regions, ``[2 + L 4]``: of the fixed level, of the rule, of all levels."""
    rgb, truths = load("bsds500", path)
    if family == "tree":
        superpixels, tree = tree_of(rgb)
        levels = np.array([FIXED[family], tree_level(tree.altitudes[tree.n_leaves :]), *GRID])
        found = measure.tree_scores(superpixels, tree.parents, tree.altitudes, list(truths), levels)
        order = np.arange(len(levels))
    else:
        found = measure.list_scores(felzenszwalb_scales(rgb), list(truths))
        two = FELZENSZWALB.index(FIXED[family]), felzenszwalb_level(found.n_regions)
        order = np.array([*two, *range(len(FELZENSZWALB))])
    return np.stack([found.covering, found.rand, -found.variation, found.n_regions], axis=1)[order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--family", choices=sorted(FIXED), default="tree")
    options = parser.parse_args()
    photos = sorted((options.data / "bsds500" / "images" / options.split).glob("*.jpg"))
    table = np.array([scores(path, options.family) for path in photos])  # [I L 4]
    half = np.arange(len(table)) % 2
    others = [2 + int(table[half != side, 2:, 0].mean(0).argmax()) for side in (0, 1)]
    sides = {
        f"level {FIXED[options.family]:g}, from train": table[:, 0],
        "best level of the other half": table[np.arange(len(table)), np.array(others)[half]],
        "the rule": table[:, 1],
        "best level, in-sample": table[:, 2 + int(table[:, 2:, 0].mean(0).argmax())],
        "oracle": np.take_along_axis(table[:, 2:], table[:, 2:, :1].argmax(1)[:, None], 1)[:, 0],
    }
    print(
        f"{len(table)} photos of {options.split}\n\n| | covering | PRI | VI | regions | covering less the rule's (s.e.) |"
    )
    print("|---|---|---|---|---|---|")
    for name, side in sides.items():
        covering, rand, variation, regions = side.mean(0)
        less = side[:, 0] - table[:, 1, 0]
        tail = f"{regions:.1f} | {less.mean():+.4f} ({paired_error(less):.4f}) |"
        print(f"| {name} | {covering:.4f} | {rand:.4f} | {-variation:.4f} | {tail}")


if __name__ == "__main__":
    main()
