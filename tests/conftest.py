"""What all tests share: the development data, where it is at hand, and small pictures."""

import os
from pathlib import Path

import numpy as np
import pytest

from selfseg.core.image import Image

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The development data; tests that want it are skipped where it is not at hand."""
    folder = Path(os.environ.get("SELFSEG_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "README.md").is_file():
        pytest.skip("no development data: set SELFSEG_DATA")
    return folder


def blobs(height: int = 40, width: int = 52, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A noisy picture with a dark ground, a mid-grey half and a bright disc: uint8 [Y X C]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    tone = np.where(x < width // 2, 40.0, 120.0)
    tone[(y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2] = 220.0
    noise = rng.normal(0, 6, (height, width, channels))
    return np.clip(tone[..., None] + noise + np.arange(channels) * 3, 0, 255).astype(np.uint8)


@pytest.fixture
def picture() -> Image:
    """One small colour picture with three tones."""
    return Image(blobs(), "YXC", name="picture")
