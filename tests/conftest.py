"""What all tests share: the development data, where it is at hand, and small pictures."""

import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.image import Image

ROOT = Path(__file__).parent.parent

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell lets programs in the background ignore it, and tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


class ThreadsShare:
    """A share of a batch between threads, for what processes do otherwise (`sample.shared_batch.Share`)."""

    def __init__(self, rank, world, empty, meeting, table):
        self.rank, self.world, self.empty, self._meeting, self._table = rank, world, empty, meeting, table

    def _all(self, values):
        self._table[self.rank] = values.detach().clone()
        self._meeting.wait()
        found = list(self._table)
        self._meeting.wait()
        return found

    def all_reduce(self, values):
        return sum(self._all(values))

    def broadcast(self, values, source):
        return self._all(values)[source].clone()


def shared_in_threads(work, world=2, empty=()):
    """Call ``work(rank)`` in threads that share a batch, those in `empty` without an image of it; return what each returns."""
    from selfseg.sample.shared_batch import sharing

    meeting, table, found = threading.Barrier(world, timeout=60), [None] * world, [None] * world

    def run(rank):
        with sharing(ThreadsShare(rank, world, rank in empty, meeting, table)):
            try:
                found[rank] = work(rank)
            except BaseException:
                meeting.abort()
                raise

    with ThreadPoolExecutor(world) as pool:
        for future in [pool.submit(run, rank) for rank in range(world)]:
            future.result()
    return found


@pytest.fixture
def picture() -> Image:
    """One small colour picture with three tones."""
    return Image(blobs(), "YXC", name="picture")


@pytest.fixture
def small_bsds(tmp_path):
    """A folder with the layout of the real data: four small pictures of BSDS500 val, each with two annotators."""
    return write_small_bsds(tmp_path / "data")


def write_small_bsds(folder):
    """Write such a folder, and return it."""
    images, truths = (folder / "bsds500" / kind / "val" for kind in ("images", "groundTruth"))
    images.mkdir(parents=True)
    truths.mkdir(parents=True)
    for seed in range(4):
        picture = blobs(40 + 4 * seed, 52, seed=seed)
        Picture.fromarray(picture).save(images / f"{100 + seed}.jpg", quality=95)
        y, x = np.mgrid[: picture.shape[0], :52]
        halves = (x >= 26).astype(np.uint16)
        disc = (y - picture.shape[0] / 2) ** 2 + (x - 26) ** 2 < (picture.shape[0] / 4) ** 2
        np.savez(truths / f"{100 + seed}.npz", segmentations=np.stack([halves, np.where(disc, 2, halves)]))
    return folder


def write_clip(path, n_frames=12, size=(64, 96), codec="libx264", pixels="yuv420p", pictures=None, rate=24):
    """Write a video, of `pictures` or of a bright bar that moves 2 pixels a frame over a dark ground; return its path."""
    av = pytest.importorskip("av")
    if pictures is None:
        pictures = np.full((n_frames, *size, 3), 20, np.uint8)
        for number, picture in enumerate(pictures):
            picture[:, 2 * number : 2 * number + 8] = 230
    layout = "rgb24" if pictures.ndim == 4 else "gray" if pictures.dtype == np.uint8 else "gray16le"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], pixels
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format=layout)))
        container.mux(stream.encode())
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder with two small pictures."""
    return write_photos(tmp_path / "photos")


def write_photos(folder):
    """Write two small pictures into a new folder; return it."""
    folder.mkdir()
    for seed in range(2):
        Picture.fromarray(blobs(40, 52, seed=seed)).save(folder / f"photo{seed}.png")
    return folder


@pytest.fixture
def project(photos):
    """A project of the studio over the two pictures, without any process."""
    from selfseg.apps.studio.project import open_project

    found = open_project([str(photos)])
    yield found
    found.log.close()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished run: region merging, three classes, both pictures segmented."""
    from selfseg.apps.studio.results import store_results
    from selfseg.apps.studio.runs import STATUS, Runs, Spec
    from selfseg.core.files import write_json
    from selfseg.learning.segmenter import Segmenter
    from selfseg.read import find_inputs

    home = tmp_path_factory.mktemp("finished")
    sources = find_inputs(write_photos(home / "photos"))
    inputs = tuple(str(source.path) for source in sources)
    spec = Spec("made", inputs=inputs, n_classes=3, options={"superpixel_size": 20.0, "level": 1.0})
    made = Runs(home / "runs").create(spec)
    model = Segmenter(**spec.parameters()).fit(list(inputs), out=made.folder / "model", keep_checkpoints=True)
    for source in sources:
        store_results(model, source, None, made.folder)
    write_json(made.folder / STATUS, {"state": "done", "step": 2, "total": 2})
    return made


@pytest.fixture
def run(project, finished_run):
    """A copy of `finished_run` in the project, whose pictures are the same."""
    from selfseg.apps.studio.runs import Run, Spec

    copy = Run(project.folder / "runs" / finished_run.id)
    shutil.copytree(finished_run.folder, copy.folder)
    inputs = tuple(str(source.path) for source in project.sources())
    replace(Spec.read(copy.folder), inputs=inputs).save(copy.folder)
    return copy


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, which draws in software."""
    from studio_hand import CHROMIUM

    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with sync_api.sync_playwright() as engine:
        options = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        found = engine.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


@pytest.fixture
def photo(tmp_path):
    """The astronaut that comes with scikit-image, a quarter of it, so that training takes seconds."""
    from skimage import data

    path = tmp_path / "astronaut.png"
    Picture.fromarray(np.ascontiguousarray(data.astronaut()[::2, ::2])).save(path)
    return path


@pytest.fixture
def studio(photo):
    """`selfseg studio` of that photo."""
    from studio_hand import Server

    found = Server(photo)
    yield found
    found.stop()


@pytest.fixture
def small_blocks(monkeypatch):
    """Prediction in parts of 32 pixels, so that a small image has many."""
    from selfseg.segmenting import images, plan, trees
    from selfseg.tiling import tiles

    for module in (images, plan, trees):
        monkeypatch.setattr(module, "CHUNK", {2: 32, 3: 8})
    for module in (tiles, plan, trees):
        monkeypatch.setattr(module, "SMALLEST_TILE", 64**2)
