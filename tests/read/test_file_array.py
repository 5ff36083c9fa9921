"""Windows of plain values in a file, against the same windows of the array in memory."""

import itertools

import numpy as np
import pytest

from selfseg.read import _lazy_array
from selfseg.read._lazy_array import FileArray


@pytest.fixture(params=["<u2", ">u2", "<f4", "u1"])
def values(request):
    return np.random.default_rng(0).integers(0, 250, (5, 7, 11, 3)).astype(request.param)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("overhead", [0, 10, 100, 1 << 14])
def test_every_window_is_that_of_the_array(tmp_path, monkeypatch, values, order, overhead):
    monkeypatch.setattr(
        _lazy_array, "OVERHEAD", overhead
    )  # the larger, the larger are the pieces that are read at once
    path = tmp_path / "a.raw"
    path.write_bytes(b"header" + values.tobytes(order))
    array = FileArray(path, values.dtype, 6, values.shape, order)
    rng = np.random.default_rng(1)
    edges = [sorted(rng.integers(0, n + 1, (40, 2)).tolist()) for n in values.shape]
    windows = [tuple(slice(min(pair), max(pair)) for pair in row) for row in zip(*edges, strict=True)]
    windows += list(itertools.product(*[(slice(0, n), slice(n - 1, n)) for n in values.shape]))
    for window in windows:
        np.testing.assert_array_equal(array[window], values[window])
        assert array[window].dtype == values.dtype


def test_not_much_more_is_read_than_is_wanted(tmp_path, monkeypatch):
    shape = (30, 2000, 5000)
    with (tmp_path / "a.raw").open("wb") as file:
        file.truncate(30 * 2000 * 5000)
    read, real = [], _lazy_array._read
    monkeypatch.setattr(
        _lazy_array, "_read", lambda file, start, out: (read.append(out.nbytes), real(file, start, out))
    )
    array = FileArray(tmp_path / "a.raw", np.uint8, 0, shape)
    array[slice(5, 6), slice(0, 2000), slice(0, 5000)]
    assert read == [2000 * 5000]
    read.clear()
    array[slice(0, 30), slice(0, 2000), slice(7, 8)]  # across all rows: whole planes, one by one
    assert read == [2000 * 5000] * 30 and max(read) <= _lazy_array.LARGEST
    read.clear()
    array = FileArray(tmp_path / "a.raw", np.uint8, 0, (3000, 100_000))
    array[slice(10, 60), slice(0, 512)]  # of wide rows only what is wanted
    assert read == [512] * 50


def test_a_file_too_short_for_its_array_is_refused_before_and_while_it_is_read(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(100))
    with pytest.raises(ValueError, match="94 bytes for 100"):
        FileArray(path, np.uint8, 6, (10, 10))
    array = FileArray(path, np.uint8, 0, (10, 10))
    path.write_bytes(bytes(60))
    assert array[slice(0, 6), slice(0, 10)].shape == (6, 10)
    with pytest.raises(ValueError, match="shorter while it was read"):
        array[slice(5, 7), slice(0, 10)]
