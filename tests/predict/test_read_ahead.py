"""Reading ahead: the next image is read by another thread while one is segmented, with the same results."""

import threading

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.errors import SelfsegError
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.read.sources import Source
from selfseg.segmenting import images
from selfseg.segmenting.images import Settings, iter_segment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ahead")
    rng = np.random.default_rng(0)
    for i in range(4):
        tones = np.where(np.arange(40) < 10 + 5 * i, 60, 180)[None, :, None] + rng.integers(0, 20, (30, 40, 3))
        Picture.fromarray(tones.astype(np.uint8)).save(place / f"p{i}.png")
    return place


@pytest.fixture(scope="module")
def model(folder):
    return Segmenter("kmeans", 2, device="cpu").fit(folder / "p0.png")


def test_labels_are_the_same_and_broken_files_are_named(model, folder, tmp_path):
    (folder / "p2b.png").write_bytes(b"no picture")
    failures = {ahead: predict(model, folder, tmp_path / str(ahead), read_ahead=ahead) for ahead in (False, True)}
    assert [name for name, _ in failures[True]] == ["p2b"]
    assert failures[True] == failures[False]
    for path in sorted((tmp_path / "False" / "labels").glob("*.tif")):
        assert path.read_bytes() == (tmp_path / "True" / "labels" / path.name).read_bytes()
    assert len(list((tmp_path / "True" / "labels").glob("*.tif"))) == 4


def test_the_next_image_is_read_while_one_is_segmented(model, monkeypatch):
    """Each image waits, while it is segmented, for the next one to have been read: without reading ahead it would wait for ever."""
    done, read, names = threading.Event(), [], []
    size = np.zeros((30, 40, 3), np.uint8)

    class Counted(Source):
        def read(self, axes=None, max_bytes=None):
            read.append((self.name, threading.current_thread() is threading.main_thread()))
            (done.set() if len(read) == 3 else None)
            return super().read(axes, max_bytes)

    def segment(model, image, settings):
        names.append(image.name)
        if image.name == "i1":
            assert done.wait(20)
        return image

    monkeypatch.setattr(images, "segment_image", segment)
    sources = [Counted(f"i{i}", content=size + i) for i in range(3)]
    found = list(iter_segment(model.fitted, sources, None, Settings(read_ahead=True)))
    assert [source.name for source, _ in found] == names == ["i0", "i1", "i2"]
    assert [name for name, _ in read] == names
    assert not any(main for _, main in read)


def test_reading_ends_with_who_asked_for_it(model):
    sources = [Source(f"i{i}", content=np.zeros((30, 40, 3), np.uint8)) for i in range(3)]
    before = threading.active_count()
    going = iter_segment(model.fitted, sources, None, Settings(read_ahead=True))
    _, outcome = next(going)
    assert not isinstance(outcome, SelfsegError)
    going.close()
    assert threading.active_count() == before
