"""BioImage.IO packages of every method that is a network, tested by `bioimageio.core`, which has a virtual environment of its own.

python tests/bioimageio_packages.py write FOLDER      # with selfseg
python tests/bioimageio_packages.py check FOLDER      # with bioimageio.core and onnxruntime, without the network
"""

import sys
from pathlib import Path

METHODS = {
    "feature_clustering": {"iterations": 10, "n_features": 16, "n_clusters": 12},
    "wnet": {"iterations": 4, "width": 4, "depth": 2, "n_clusters": 5},
    "deep_kmeans": {"iterations": 4},
    "unet": {"iterations": 4, "width": 4, "depth": 2},
}


def write(folder: Path) -> None:
    """Train each method for some steps and write its package; feature clustering in 3D too."""
    import numpy as np

    from selfseg.core.image import Image
    from selfseg.learning.segmenter import Segmenter
    from selfseg.results.bioimageio import export_bioimageio

    y, x = np.mgrid[:64, :72]
    picture = (60 + 120 * ((y - 30) ** 2 + (x - 36) ** 2 < 400) + (y * 7 + x * 3) % 11).astype(np.uint8)
    volume = np.stack([picture[:24, :28]] * 16)
    for name, options in METHODS.items():
        labels = [(picture > 100).astype(np.uint8) + 1] if name == "unet" else None
        model = Segmenter(name, options=options, prepare="auto").fit(Image(picture, "YX"), labels)
        export_bioimageio(model.fitted, folder / f"{name}.zip")
    model = Segmenter("feature_clustering", options=METHODS["feature_clustering"], prepare="auto")
    export_bioimageio(model.fit(Image(volume, "ZYX")).fitted, folder / "feature_clustering_3d.zip")


def check(folder: Path) -> int:
    """Run the tests of `bioimageio.core` on each package: its outputs, other sizes, batches; return the number that fail."""
    from bioimageio.core import test_model

    failed = 0
    for path in sorted(folder.glob("*.zip")):
        summary = test_model(path)
        print(f"{summary.status}: {path.name}")
        if summary.status == "failed":
            failed += 1
            summary.display()
    return failed if any(folder.glob("*.zip")) else 1


if __name__ == "__main__":
    word, place = sys.argv[1:]
    sys.exit(write(Path(place)) if word == "write" else check(Path(place)))
