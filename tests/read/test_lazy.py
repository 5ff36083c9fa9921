"""Lazy images: any window equals the same window of the whole, and nothing else is read."""

import gzip
import itertools

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read import Source, _lazy_array, open_lazy, read_image
from selfseg.read._lazy_array import FileArray, LazyArray
from selfseg.read.frames import Frames

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 60_000, (5, 70, 90), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (70, 90, 3), dtype=np.uint8)


def tiff(path, data=VOLUME, **options):
    tifffile.imwrite(path, data, **{"photometric": "rgb" if data is COLOUR else "minisblack", **options})
    return path


def pyramid(path):
    with tifffile.TiffWriter(path, ome=True) as tif:
        options = {"tile": (32, 32), "photometric": "minisblack", "compression": "zlib"}
        metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
        tif.write(VOLUME, subifds=1, metadata=metadata, **options)
        tif.write(VOLUME[:, ::2, ::2], subfiletype=1, **options)
    return path


def alpha(path):
    mask = np.full((70, 90, 1), 255, np.uint8)
    mask[:20] = 0
    tifffile.imwrite(
        path, np.concatenate([COLOUR, mask], -1), photometric="rgb", extrasamples=["unassalpha"], tile=(32, 32)
    )
    return path


def nifti(path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0, 0, 2.0, 5], [0, -3, 0, 6], [-4, 0, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(VOLUME.T.astype(np.int32), affine), path)
    return path


def mrc(path):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(path) as file:
        file.set_data(VOLUME)
        file.set_volume()
    return path


def hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=VOLUME, chunks=(2, 16, 16), compression="gzip")
    return path


def numpy(path):
    np.save(path, np.asfortranarray(VOLUME))
    return path


def zarr(path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(path, shape=VOLUME.shape, dtype=VOLUME.dtype, chunks=(2, 16, 16))
    array[:] = VOLUME
    return path


FILES = {
    "strips.tif": lambda path: tiff(path, compression="zlib", rowsperstrip=7),
    "tiles.tif": lambda path: tiff(path, tile=(32, 48), compression="lzw", predictor=True),
    "plain.tif": tiff,
    "big.tif": lambda path: tiff(path, data=VOLUME.astype(">u2"), bigtiff=True, byteorder=">"),
    "pages.tif": lambda path: tiff(path, metadata=None, rowsperstrip=11, compression="zlib"),
    "imagej.tif": lambda path: tiff(path, imagej=True, metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"}),
    "colour.tif": lambda path: tiff(path, data=COLOUR, tile=(32, 32), compression="zlib"),
    "planar.tif": lambda path: tiff(
        path, COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=(16, 16)
    ),
    "jpeg.tif": lambda path: tiff(path, data=COLOUR, tile=(32, 32), compression="jpeg"),
    "palette.tif": lambda path: tiff(
        path, data=COLOUR[..., 0], photometric="palette", colormap=RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    ),
    "white.tif": lambda path: tiff(path, data=COLOUR[..., 0], photometric="miniswhite", tile=(32, 32)),
    "bits.tif": lambda path: tiff(path, data=COLOUR[..., 0] > 99, rowsperstrip=9),
    "unknown.tif": lambda path: tiff(path, data=np.stack([VOLUME[:2], VOLUME[2:4], VOLUME[3:]])),
    "turned.tif": lambda path: tiff(path, data=COLOUR, extratags=[(274, "H", 1, 6, True)]),
    "pyramid.ome.tif": pyramid,
    "alpha.tif": alpha,
    "a.nii": nifti,
    "a.nii.gz": nifti,
    "a.mrc": mrc,
    "a.h5": hdf5,
    "a.npy": numpy,
    "a.zarr": zarr,
}


@pytest.fixture(params=FILES)
def path(request, tmp_path):
    return FILES[request.param](tmp_path / request.param)


def test_every_window_is_that_of_the_whole(path):
    whole = read_image(path)
    with open_lazy(path) as image:
        assert (image.axes, image.spacing, image.unit, image.channels, image.name) == (
            whole.axes, whole.spacing, whole.unit, whole.channels, whole.name,
        )  # fmt: skip
        assert image.data.shape == whole.data.shape and image.data.dtype == whole.data.dtype
        assert image.spatial_shape == whole.spatial_shape and image.n_channels == whole.n_channels
        rng = np.random.default_rng(3)
        for _ in range(12):
            low = [int(rng.integers(0, n)) for n in image.data.shape]
            window = tuple(
                slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(low, image.data.shape, strict=True)
            )
            np.testing.assert_array_equal(image.data[window], whole.data[window])
            if whole.valid is not None:
                spatial = tuple(part for part, letter in zip(window, image.axes, strict=True) if letter != "C")
                np.testing.assert_array_equal(image.valid[spatial], whole.valid[spatial])
        np.testing.assert_array_equal(image.load().data, whole.data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_indexing_is_that_of_numpy(data):
    shape = (4, 5, 6)
    array = np.arange(120).reshape(shape)
    lazy = LazyArray("a", shape, array.dtype, lambda ranges: array[ranges])
    one = [
        st.integers(-n, n - 1)
        | st.slices(n)
        | st.builds(slice, st.none() | st.integers(-9, 9), st.integers(-9, 9), st.none())
        for n in shape
    ]
    index = data.draw(st.tuples(*one) | st.tuples(one[0]) | st.tuples(one[0], st.just(Ellipsis)) | st.just(Ellipsis))
    np.testing.assert_array_equal(lazy[index], array[index])
    order = data.draw(st.permutations(range(3)))
    flipped = data.draw(st.lists(st.integers(0, 2), unique=True))
    turned, view = np.flip(array, flipped).transpose(order), lazy.arranged(order, flipped)
    np.testing.assert_array_equal(view[tuple(slice(1, n) for n in view.shape)], turned[1:, 1:, 1:])
    np.testing.assert_array_equal(np.asarray(view), turned)


@pytest.mark.parametrize("index", [9, -5, (0, 0, 0, 0), (..., ...), "a", 1.5, None])
def test_indices_that_do_not_fit(index):
    lazy = LazyArray("a", (4, 5, 6), int, lambda ranges: np.zeros((4, 5, 6))[ranges])
    with pytest.raises(IndexError):
        lazy[index]


def test_only_the_tiles_that_a_window_touches_are_read(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", data=np.zeros((4, 512, 512), np.uint8), tile=(64, 64), compression="zlib")
    read = []
    original = tifffile.FileHandle.read
    with open_lazy(path) as image:
        monkeypatch.setattr(tifffile.FileHandle, "read", lambda self, n=-1: read.append(n) or original(self, n))
        image.data[2, 60:70, 0:64]
        assert len(read) == 2  # two tiles of 64
        image.data[2, 60:70, 10:20]
        assert len(read) == 2  # kept


def test_a_plain_stack_larger_than_memory_is_opened_at_once(tmp_path):
    path = tmp_path / "a.npy"
    header = np.lib.format.open_memmap(path, "w+", np.uint8, (400, 50_000, 50_000))  # 1 TB, sparse on disk
    header[399, 49_999, 49_990:] = np.arange(10)
    del header
    with open_lazy(path) as image:
        assert image.data.nbytes == 10**12 and image.guessed_axes
        np.testing.assert_array_equal(image.data[-1, -1, -10:], np.arange(10))
    with pytest.raises(InputError, match=r"at most .* GB of pixels"):
        read_image(path)


def test_windows_by_letter(tmp_path):
    data = np.ones((3, 4, 5, 2), np.float32)
    data[1, 2, 3, 0] = np.nan
    np.save(tmp_path / "a.npy", data)
    image = open_lazy(tmp_path / "a.npy", axes="ZYXC")
    part = image.window(Z=1, X=slice(2, 5))
    assert part.axes == "YXC" and part.data.shape == (4, 3, 2) and part.spacing == (1.0, 1.0)
    expected = np.ones((4, 3), bool)
    expected[2, 1] = False
    np.testing.assert_array_equal(part.valid, expected)
    assert image.window(Z=slice(0, 1)).valid is None
    for ranges in ({"T": slice(0, 1)}, {"Y": 3}, {"X": np.int64(3)}):
        with pytest.raises(UsageError, match="window: expected axes out of ZYXC"):
            image.window(**ranges)
    with pytest.raises(InputError, match="3 axes"):
        open_lazy(tmp_path / "a.npy", axes="ZYX")


def test_levels_of_a_pyramid_are_chosen_by_number(tmp_path):
    path = pyramid(tmp_path / "a.ome.tif")
    with open_lazy(path, level=1) as image:
        assert image.data.shape == (5, 35, 45) and image.spacing == (2.0, 1.0, 1.0) and image.unit == "micrometer"
        np.testing.assert_array_equal(image.data[...], VOLUME[:, ::2, ::2])
    with pytest.raises(InputError, match="one of 2 levels, got 2"):
        open_lazy(path, level=2)


@pytest.mark.parametrize("name", ["plain.tif", "a.npy", "a.mrc", "a.h5", "a.nii", "a.zarr"])
def test_a_level_of_what_is_no_pyramid_is_refused(tmp_path, name):
    path = FILES[name](tmp_path / name)
    with pytest.raises(InputError, match=r"level.*got 3; "):
        open_lazy(path, level=3)


def test_one_of_several_series_is_chosen_by_its_number(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        tif.write(VOLUME, photometric="minisblack", metadata={"axes": "ZYX"})
        tif.write(COLOUR, photometric="rgb", metadata={"axes": "YXS"})
    with pytest.raises(InputError, match=r"2 images .*choose one, from .*a\.ome\.tif:/0 on"):
        read_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(read_image(f"{tmp_path}/a.ome.tif:/0").data, VOLUME)
    image = read_image(f"{tmp_path}/a.ome.tif:/1")
    np.testing.assert_array_equal(image.data, COLOUR)
    assert image.name == "a_1"
    with open_lazy(f"{tmp_path}/a.ome.tif:/1") as lazy:
        np.testing.assert_array_equal(lazy.data[3:5], COLOUR[3:5])


def test_damage_in_the_middle_is_named_when_it_is_read(tmp_path):
    path = tiff(tmp_path / "a.tif", compression="zlib", rowsperstrip=7)
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[3].dataoffsets[2]
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    with open_lazy(path) as image:
        np.testing.assert_array_equal(image.data[0], VOLUME[0])
        with pytest.raises(InputError, match=r"a\.tif: expected a whole image file"):
            image.data[3]


def test_packed_volumes_are_read_whole_and_checked(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()))[:-3])
    with pytest.raises(InputError, match="damaged"):
        open_lazy(path)


@pytest.mark.parametrize("axis", ["T", "Z", "Y", "X"])
def test_planes_of_an_image_in_its_file_are_those_in_memory(tmp_path, axis):
    data = np.random.default_rng(0).integers(0, 200, (3, 4, 5, 6, 2)).astype(np.uint16)
    np.save(tmp_path / "a.npy", data)
    lazy, whole = Frames.along(open_lazy(tmp_path / "a.npy", "TZYXC"), axis), Frames.along(Image(data, "TZYXC"), axis)
    assert lazy.n_frames == whole.n_frames
    for number in range(lazy.n_frames):
        a, b = lazy.frame(number), whole.frame(number)
        assert (a.axes, a.spacing) == (b.axes, b.spacing)
        np.testing.assert_array_equal(a.data, b.data)
    assert lazy.fingerprint() == Source("a", tmp_path / "a.npy").fingerprint()


def test_one_place_of_a_lazy_image_reads_nothing_else(tmp_path):
    data = np.random.default_rng(0).random((4, 5, 6, 3)).astype(np.float32)
    data[2, 1, 1] = np.nan
    np.save(tmp_path / "a.npy", data)
    image = open_lazy(tmp_path / "a.npy", "ZYXC")
    plane = image.at("Z", 2)
    assert (plane.axes, plane.spacing, plane.data.shape) == ("YXC", (1.0, 1.0), (5, 6, 3))
    found = plane.window(Y=slice(0, 4), X=slice(1, 3))
    np.testing.assert_array_equal(found.data, data[2, 0:4, 1:3])
    assert not found.valid[1, 0]
    for axis, number in (("Z", 4), ("Z", -1), ("T", 0), ("C", 0)):
        with pytest.raises(UsageError, match="a place on an axis of ZYXC below its length"):
            image.at(axis, number)


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


@pytest.mark.parametrize("axes", ["YX", "YXC", "CYX"])
def test_a_masked_array_in_an_image_is_honoured(axes):
    data = np.arange(4 * 5 * 3).reshape(
        [{"Y": 4, "X": 5, "C": 3}[letter] for letter in axes] if "C" in axes else (4, 15)
    )
    mask = np.zeros(data.shape, bool)
    mask[(1,) * data.ndim] = True
    image = Source("a", content=Image(np.ma.MaskedArray(data, mask), axes)).read()
    assert type(image.data) is np.ndarray and np.argwhere(~image.valid).tolist() == [[1, 1]]
    np.testing.assert_array_equal(image.data, data)
