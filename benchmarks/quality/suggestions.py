"""Is the family that `selfseg look` suggests the right one? Photographs, nuclei, electron micrographs and textures, one image at a time.

    python benchmarks/quality/suggestions.py --data DATA --split val [-o FILE.json]

Right is: regions for BSDS500 and for photographs and textures of scikit-image, objects for DSB 2018, its coins and its deep field, and
slices of volumes of nuclei, membranes for ISBI 2012 and slices of a volume of nerve cord. `train` takes every other image of each set but
BSDS500's own split; the thresholds were chosen there. At most 20 photos, and 7 images of each kind of microscopy (3 of bright-field).
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
from PIL import Image as Picture
from tifffile import imread

from selfseg.learning import look
from selfseg.read import find_inputs
from selfseg.read.datasets import find_dataset

PHOTOS, NUCLEI, BRIGHTFIELD = 20, 7, 3
SLICES = {
    "isbi2012/train-volume_00-19.tif": ("membranes", range(20)),
    "volume3d/vnc_em_image.tif": ("membranes", range(20)),
    "volume3d/c5image.tif": ("objects", range(20, 110, 10)),
    "volume3d/stardist_img3d.tif": ("objects", range(8, 28, 4)),
}
OTHERS = {"coins.png": "objects", "hubble_deep_field.jpg": "objects"} | dict.fromkeys(
    [
        "astronaut.png",
        "brick.png",
        "camera.png",
        "cell.png",
        "chelsea.png",
        "coffee.png",
        "grass.png",
        "gravel.png",
        "ihc.png",
        "moon.png",
        "motorcycle_left.png",
        "retina.jpg",
        "rocket.jpg",
    ],
    "regions",
)


def images(data: Path, split: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield set, right family and array of each image."""
    half = 0 if split == "train" else 1
    photos = sorted((data / "bsds500" / "images" / split).glob("*.jpg"))
    for path in photos[:: len(photos) // PHOTOS][:PHOTOS]:
        yield "bsds500", "regions", np.asarray(Picture.open(path))
    kinds = defaultdict(list)
    for part in ("train", "val"):
        for item in find_dataset("dsb2018").items(part, data):
            kinds[item.kind].append(Path(item.name).stem)
    for kind, names in kinds.items():
        for name in sorted(names)[half::2][: BRIGHTFIELD if kind == "brightfield" else NUCLEI]:
            picture = np.asarray(Picture.open(data / "dsb2018" / "images" / f"{name}.png"))
            grey = (picture == picture[..., :1]).all()
            yield f"dsb2018 {kind}", "objects", picture[..., 0] if grey else picture
    for name, (family, places) in SLICES.items():
        volume = imread(data / name)
        for place in places[half::2]:
            yield name, family, volume[place]
    for name in sorted(OTHERS)[half::2]:
        yield "scikit-image", OTHERS[name], np.asarray(Picture.open(Path(skimage.__file__).parent / "data" / name))


def family_of(array: np.ndarray) -> tuple[str, str]:
    """Return the family that is suggested, and the reason."""
    views, _ = look.choose_views(find_inputs([array]))
    (tile,) = [tile for tile in look.suggest(list(look.look(views))) if tile.suggested]
    return {"contours": "regions"}.get(tile.candidate.method, tile.candidate.method), tile.suggested


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "val"), default="val")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    # What cannot be suggested, or looks at the same facts, is left out.
    able = [one for one in look.CANDIDATES if one.method in ("objects", "membranes") or one.title == "Regions"]
    look.candidates = lambda: able
    rows = []
    for name, family, array in images(options.data, options.split):
        found, reason = family_of(array)
        rows.append({"set": name, "right": family, "suggested": found, "reason": reason})
    for name in dict.fromkeys(row["set"] for row in rows):
        mine = [row for row in rows if row["set"] == name]
        right = sum(row["right"] == row["suggested"] for row in mine)
        print(f"{name:36s}{right:4d} of {len(mine):3d}  {dict(Counter(row['suggested'] for row in mine))}")
    print(f"{'all':36s}{sum(row['right'] == row['suggested'] for row in rows):4d} of {len(rows):3d}")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
