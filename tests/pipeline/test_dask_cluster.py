"""Blocks on a Dask cluster: the bytes of one process, also when workers or the client die; one line of error."""

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest

from conftest import blobs
from in_parts import QUICK, Killed, contents, predict_large, stored
from selfseg.core.errors import InputError, ModelError, OutputError, UsageError
from selfseg.core.progress import Silent
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.read import open_lazy
from selfseg.segmenting.executors import DaskCluster

pytest.importorskip("distributed")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file

pytestmark = pytest.mark.usefixtures("small_blocks")
DATA = blobs(300, 270, seed=5)


class After(Silent):
    """Calls a function when so many blocks are done."""

    def __init__(self, n_blocks, act):
        self.left, self.act, self.seen = n_blocks, act, 0

    def update(self, done, values):
        self.seen += 1
        self.left -= 1
        if not self.left:
            self.act()


@pytest.fixture(scope="module")
def cluster():
    with DaskCluster("local:3") as started:
        yield started


@pytest.fixture(scope="module")
def model():
    return Segmenter("feature_clustering", prepare="percentile=1:99", options=QUICK).fit(blobs(90, 80))


@pytest.fixture
def image(tmp_path):
    return stored(tmp_path / "photo.zarr", DATA, "YXC")


@pytest.fixture
def straight(model, image, tmp_path):
    """What one process writes, and in how many blocks."""
    watcher = After(-1, None)
    predict_large(model, image, tmp_path / "straight", memory=1, progress=watcher)
    return contents(tmp_path / "straight"), watcher.seen


def pids(cluster):
    return set(cluster._client.run(os.getpid).values())


@pytest.mark.slow
def test_three_workers_one_of_them_killed_give_the_bytes_of_one_process(model, image, straight, cluster, tmp_path):
    workers = pids(cluster)
    assert len(workers) == 3
    assert os.getpid() not in workers
    watcher = After(6, lambda: os.kill(min(workers), signal.SIGKILL))
    predict_large(model, image, tmp_path / "out", memory=1, progress=watcher, executor=cluster)
    assert (contents(tmp_path / "out"), watcher.seen) == straight
    assert watcher.seen > 12
    assert min(workers) not in pids(cluster)  # it did die, and another has taken its place


@pytest.mark.slow
def test_what_a_killed_client_has_noted_is_not_done_again(model, image, straight, cluster, tmp_path):
    def die():
        raise Killed

    with pytest.raises(Killed):
        predict_large(model, image, tmp_path / "out", memory=1, progress=After(7, die), executor=cluster)
    noted = len((tmp_path / "out" / "labels" / "photo.blocks").read_text().splitlines()) - 1
    assert noted == 7
    watcher = After(-1, None)
    predict_large(model, image, tmp_path / "out", memory=1, progress=watcher, executor=cluster)
    assert (contents(tmp_path / "out"), watcher.seen + noted) == straight


@pytest.mark.slow
def test_series_go_to_the_cluster_frame_by_frame(cluster, tmp_path):
    series = np.stack([blobs(70, 60, seed=i) for i in range(2)])
    model = Segmenter("feature_clustering", prepare="range", options=QUICK).fit(series[0])
    image = stored(tmp_path / "t.zarr", series, "TYXC")
    result = predict_large(model, image, tmp_path / "out", memory=1, executor=cluster)
    for frame in range(2):
        np.testing.assert_array_equal(result.labels[frame], model.predict(series[frame]).labels)


@pytest.mark.slow
def test_predict_sends_what_can_be_read_in_parts_and_does_the_rest_here(model, image, tmp_path, monkeypatch):
    from PIL import Image as Picture

    Picture.fromarray(blobs(40, 52)).save(tmp_path / "small.png")
    said = []
    progress = Silent()
    monkeypatch.setattr(progress, "say", said.append)
    inputs = [tmp_path / "photo.zarr", tmp_path / "small.png"]
    assert predict(model, inputs, tmp_path / "out", axes="YXC", dask="local:1", progress=progress) == []
    np.testing.assert_array_equal(open_lazy(tmp_path / "out/labels/photo.zarr").data[...], model.predict(DATA).labels)
    assert (tmp_path / "out" / "labels" / "small.tif").is_file()
    assert [line for line in said if "predicted here" in line] == [line for line in said if line.startswith("small:")]


@dataclass
class Order:
    """Stands for an order whose files a worker does not find, or that ends the worker."""

    image: str
    deadly: bool = False

    def open(self, worker):
        if self.deadly:
            os._exit(9)
        return open_lazy(self.image)


def run(cluster, monkeypatch, folder, blocks, **how):
    monkeypatch.setattr("selfseg.segmenting.executors.BlockOrder.of", lambda work, folder, turns: Order(**how))
    return list(cluster.run(SimpleNamespace(path=folder / "a.zarr"), blocks))


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_image_says_so_in_one_line(cluster, tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"^Dask worker tcp://.*: /nowhere/a.tif: expected an image file, got nothing[^\n]*$"
    ):
        run(cluster, monkeypatch, tmp_path, [0, 1], image="/nowhere/a.tif")


@pytest.mark.slow
def test_a_block_that_ends_every_worker_is_given_up_in_one_line(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("selfseg.segmenting.executors.SENT_AGAIN", 0)
    with pytest.raises(InputError, match=r"block 4 on local:3: expected .* lack of memory; give --memory"):
        run(cluster, monkeypatch, tmp_path, [4], image="", deadly=True)


@pytest.mark.parametrize(("workers", "word"), [([], "got none"), ([{"status": "paused"}] * 2, "got paused ones")])
def test_a_cluster_of_which_nobody_is_left_is_one_line(workers, word, monkeypatch):
    monkeypatch.setattr("selfseg.segmenting.executors.PATIENCE", 0.1)
    monkeypatch.setattr(DaskCluster, "_workers", workers)
    waiting = SimpleNamespace(is_empty=lambda: False, has_ready=lambda: False)
    with pytest.raises(
        InputError, match=rf"--dask tcp://a:1: expected workers that work, {word}.*the same command continues"
    ):
        list(DaskCluster("tcp://a:1")._as_they_come(waiting))
    monkeypatch.setattr(DaskCluster, "_workers", [*workers, {"status": "running"}])
    DaskCluster("tcp://a:1")._check_workers()


def test_what_another_process_needs_is_paths_and_plain_values(model, image, tmp_path, monkeypatch):
    from selfseg.sample.prepare import prepare
    from selfseg.segmenting.blocks import BlockWork, ImageMaps
    from selfseg.segmenting.executors import BlockOrder
    from selfseg.segmenting.plan import plan_blocks
    from selfseg.segmenting.sinks import ZarrSink

    prepared = prepare(image, model.preparation_)
    plan = plan_blocks(model.fitted, prepared, 1)
    path = tmp_path / "out" / "photo.zarr"
    work = BlockWork(ImageMaps(model.fitted, prepared, plan), plan.blocks, ZarrSink(path, image.axes), 0, path)
    order = BlockOrder.of(work, tmp_path / "model", {"tcp://host:1": 0})
    monkeypatch.setattr("selfseg.segmenting.executors.selfseg_version", lambda: "0.0")
    with pytest.raises(ModelError, match=r"expected .*, got 0\.0; install the same version everywhere"):
        order.open("tcp://host:1")
    monkeypatch.undo()
    with pytest.raises(OutputError, match=r"photo.zarr: expected the labels that were begun.*same path"):
        order.open("tcp://host:1")
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(ModelError, match="model"):
        order.open("tcp://host:1")


@pytest.mark.parametrize("address", ["locals", "local:0", "host:8786", "tcp://host", ""])
def test_other_addresses_are_refused(address):
    with pytest.raises(UsageError, match=r"--dask: expected local, local:N or tcp://HOST:PORT"):
        DaskCluster(address)


def test_no_scheduler_is_one_line(monkeypatch):
    monkeypatch.setattr("selfseg.segmenting.executors.PATIENCE", 0.5)
    with pytest.raises(InputError, match=r"^--dask tcp://127.0.0.1:9: expected a Dask scheduler.*--dask local$"):
        DaskCluster("tcp://127.0.0.1:9").__enter__()
