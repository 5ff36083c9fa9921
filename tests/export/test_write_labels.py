"""Label and probability TIFFs: read back equal by others, with axes, spacing and names; equal bytes."""

import numpy as np
import pytest
import skimage.io
import tifffile
from PIL import Image as Picture

from selfseg.core.classes import ClassTable, SegmentClass, class_colours
from selfseg.core.errors import OutputError, UsageError
from selfseg.export.labels import write_labels
from selfseg.read import open_lazy


@pytest.fixture
def table():
    names = ("sky", "rock\nand sand", "Gräser", "sea")
    return ClassTable(
        tuple(SegmentClass(i + 1, n, class_colours(4)[i], 0.25, 0.1 * i, (i,)) for i, n in enumerate(names))
    )


def _labels(shape, most, seed=0):
    labels = np.random.default_rng(seed).integers(0, most + 1, shape)
    labels.flat[0] = most
    return labels


@pytest.mark.parametrize(("most", "kind"), [(1, "u1"), (255, "u1"), (256, "u2"), (65535, "u2"), (65536, "u4")])
@pytest.mark.parametrize(("shape", "axes"), [((17, 23), "YX"), ((5, 17, 23), "ZYX"), ((5, 17, 23), "TYX")])
def test_others_read_the_same_integers(tmp_path, most, kind, shape, axes):
    labels = _labels(shape, most)
    write_labels(tmp_path / "a.tif", labels, axes=axes)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].axes == axes
        read = file.asarray()
    assert read.dtype == kind
    np.testing.assert_array_equal(read, labels)
    np.testing.assert_array_equal(skimage.io.imread(tmp_path / "a.tif"), labels)


def test_pillow_reads_ids_and_not_colours(tmp_path, table):
    labels = _labels((17, 23), 4)
    write_labels(tmp_path / "a.tif", labels, table)
    with Picture.open(tmp_path / "a.tif") as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.array(picture), labels)


def test_the_largest_id_of_the_table_decides_too(tmp_path):
    table = ClassTable((SegmentClass(300, "x", (1, 2, 3, 255), 1.0, 0.0, (0,)),))
    write_labels(tmp_path / "a.tif", np.zeros((4, 5), np.int64), table)
    assert tifffile.imread(tmp_path / "a.tif").dtype == np.uint16


def test_imagej_finds_spacing_unit_names_and_colours(tmp_path, table):
    write_labels(tmp_path / "a.tif", _labels((3, 17, 23), 4), table, (2.5, 0.5, 0.065), "micrometer", "ZYX")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        metadata, tags = file.imagej_metadata, file.pages[0].tags
        assert metadata["spacing"] == 2.5
        assert metadata["unit"] == "micron"
        assert tags["XResolution"].value == (200, 13)
        assert tags["YResolution"].value == (2, 1)
        assert tags["Compression"].value == tifffile.COMPRESSION.ADOBE_DEFLATE
    assert metadata["Info"] == "1 = sky\n2 = rock and sand\n3 = Gräser\n4 = sea\n"
    colours = np.reshape(metadata["LUTs"], (3, 256))
    assert [tuple(colours[:, i]) for i in range(5)] == [(0, 0, 0), *(c[:3] for c in class_colours(4))]


def test_32_bit_is_ome_with_spacing(tmp_path):
    write_labels(tmp_path / "a.tif", _labels((3, 17, 23), 70000), None, (2.5, 0.5, 0.065), "micrometer", "ZYX")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_ome
        for text in ('PhysicalSizeX="0.065"', 'PhysicalSizeY="0.5"', 'PhysicalSizeZ="2.5"', 'PhysicalSizeXUnit="µm"'):
            assert text in file.ome_metadata


def test_axes_in_another_order_are_transposed_with_their_spacing(tmp_path):
    labels = _labels((23, 17, 3), 9)
    write_labels(tmp_path / "a.tif", labels, None, (0.25, 0.5, 2.0), "nanometer", "XYZ")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].axes == "ZYX"
        assert file.imagej_metadata["spacing"] == 2.0
        assert file.pages[0].tags["XResolution"].value == (4, 1)
        np.testing.assert_array_equal(file.asarray(), labels.transpose(2, 1, 0))


@pytest.mark.parametrize("most", [4, 300, 70000])
def test_equal_input_gives_equal_bytes(tmp_path, most):
    for name in ("a.tif", "b.tif"):
        write_labels(tmp_path / name, _labels((30, 40), most), None, (0.5, 0.5), "micrometer")
    write_labels(tmp_path / "c.tif", _labels((30, 40), most, seed=1), None, (0.5, 0.5), "micrometer")
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.tif", "b.tif", "c.tif"))
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (np.zeros((3, 4), float), {}, "integers"),
        (np.full((3, 4), -1), {}, "0 to 4294967295"),
        (np.full((3, 4), 2**32), {}, "0 to 4294967295"),
        (np.zeros((3, 4), int), {"axes": "ZYX"}, "2 letters, got 3"),
        (np.zeros((3, 4), int), {"spacing": (1.0,)}, "positive sizes"),
        (np.zeros((3, 4), int), {"spacing": (1.0, 0.0)}, "positive sizes"),
        (np.zeros((3, 4, 2), int), {"axes": "YXC"}, "no channel axis"),
    ],
)
def test_what_cannot_be_labels_is_refused_in_one_line(tmp_path, labels, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        write_labels(tmp_path / "a.tif", labels, **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_labels(tmp_path / "file" / "a.tif", np.zeros((3, 4), int))


@pytest.mark.parametrize("most", [4, 65536])
def test_the_time_between_frames_is_written(tmp_path, most):
    write_labels(tmp_path / "a.tif", _labels((3, 17, 23), most), axes="TYX", interval=2.5)
    with open_lazy(tmp_path / "a.tif") as image:
        assert image.axes == "TYX" and image.meta["interval"] == 2.5
