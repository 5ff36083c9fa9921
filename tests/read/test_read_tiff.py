"""TIFF: layouts, axes, spacing and meanings of values."""

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from PIL import ImageOps

from selfseg.core.errors import InputError
from selfseg.read import read_image, split_frames

RNG = np.random.default_rng(0)


def numbers(*shape, dtype=np.uint8):
    return (RNG.random(shape) * 250 + 1).astype(dtype)


def saved(folder, data, **options):
    tifffile.imwrite(folder / "a.tif", data, **options)
    return folder / "a.tif"


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_numbers_are_kept_in_native_order(tmp_path, dtype, byteorder):
    data = numbers(7, 9, dtype=dtype)
    image = read_image(saved(tmp_path, data, byteorder=byteorder))
    assert image.axes == "YX" and image.data.dtype == np.dtype(dtype) and image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": 2},
        {"compression": "zstd"},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
        {"bigtiff": True},
    ],
)
def test_layouts_and_compressions(tmp_path, options):
    data = numbers(40, 50, 3)
    image = read_image(saved(tmp_path, data, photometric="rgb", **options))
    assert image.axes == "YXC" and not image.guessed_axes
    np.testing.assert_array_equal(image.data, data)


def test_planar_colours_keep_their_order(tmp_path):
    data = numbers(3, 20, 30)
    image = read_image(saved(tmp_path, data, photometric="rgb", planarconfig="separate"))
    assert image.axes == "CYX" and image.n_channels == 3
    np.testing.assert_array_equal(image.channels_last(), np.moveaxis(data, 0, -1))


@pytest.mark.parametrize("metadata", [None, {}])
def test_pages_of_unknown_meaning_are_depth_and_that_is_said(tmp_path, metadata):
    data = numbers(5, 20, 30)
    path = saved(tmp_path, data, metadata=metadata, photometric="minisblack")
    image = read_image(path)
    assert image.axes == "ZYX" and image.guessed_axes
    told = read_image(path, axes="TYX")
    assert told.axes == "TYX" and not told.guessed_axes and told.spacing == (1.0, 1.0)


def test_pages_of_colours(tmp_path):
    image = read_image(saved(tmp_path, numbers(5, 20, 30, 3), photometric="rgb"))
    assert image.axes == "ZYXC" and image.guessed_axes


def test_two_unknown_axes_are_time_and_depth(tmp_path):
    image = read_image(saved(tmp_path, numbers(2, 5, 20, 30), photometric="minisblack"))
    assert image.axes == "TZYX" and image.guessed_axes


def test_imagej_axes_and_spacing(tmp_path):
    metadata = {"axes": "ZCYX", "spacing": 2.5, "unit": "\\u00B5m"}
    data = numbers(5, 3, 20, 30)
    image = read_image(saved(tmp_path, data, imagej=True, metadata=metadata, resolution=(4, 2)))
    assert image.axes == "ZCYX" and not image.guessed_axes
    assert image.spacing == (2.5, 0.5, 0.25) and image.unit == "micrometer"
    np.testing.assert_array_equal(image.data, data)


def test_ome_axes_spacing_and_channels(tmp_path):
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeY": 0.3,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeYUnit": "nm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    image = read_image(saved(tmp_path, numbers(4, 2, 20, 30), ome=True, metadata=metadata))
    assert image.axes == "TCYX" and image.spacing == (0.3, 0.2) and image.unit == "nanometer"
    assert image.channels == ("DAPI", "GFP") and not image.guessed_axes


def test_resolution_tags(tmp_path):
    image = read_image(saved(tmp_path, numbers(20, 30), resolution=(1000, 500), resolutionunit="CENTIMETER"))
    assert image.spacing == (20.0, 10.0) and image.unit == "micrometer"
    image = read_image(saved(tmp_path, numbers(20, 30), resolution=(1, 0.5), resolutionunit="NONE"))
    assert image.spacing == (2.0, 1.0) and image.unit == "pixel"
    image = read_image(saved(tmp_path, numbers(20, 30), resolution=(0, 0), resolutionunit="INCH"))
    assert image.spacing == (1.0, 1.0) and image.unit == "pixel"


def test_axes_of_length_one_are_dropped(tmp_path):
    image = read_image(saved(tmp_path, numbers(1, 1, 20, 1), metadata={"axes": "TZYX"}, photometric="minisblack"))
    assert image.axes == "YX" and image.data.shape == (20, 1)


@pytest.mark.parametrize("planar", [False, True])
def test_alpha_is_taken_out(tmp_path, planar):
    data = numbers(20, 30, 4)
    data[3, 4, 3] = 0
    stored = np.moveaxis(data, -1, 0) if planar else data
    config = "separate" if planar else "contig"
    image = read_image(saved(tmp_path, stored, photometric="rgb", extrasamples=["unassalpha"], planarconfig=config))
    np.testing.assert_array_equal(image.channels_last(), data[..., :3])
    assert np.argwhere(~image.valid).tolist() == [[3, 4]]


def test_a_fourth_channel_without_a_meaning_stays(tmp_path):
    data = numbers(20, 30, 4)
    image = read_image(saved(tmp_path, data, photometric="rgb", extrasamples=["unspecified"]))
    assert image.n_channels == 4 and image.valid is None


def test_palette_cmyk_and_white_is_zero(tmp_path):
    table = np.zeros((3, 256), np.uint16)
    table[:, 7] = (256 * 255, 256 * 10, 0)
    image = read_image(saved(tmp_path, np.full((4, 5), 7, np.uint8), photometric="palette", colormap=table))
    assert image.axes == "YXC" and (image.data == [255, 10, 0]).all()
    ink = np.full((4, 5, 4), 0, np.uint8)
    ink[...] = (51, 0, 255, 127)
    image = read_image(saved(tmp_path, ink, photometric="separated"))
    assert image.n_channels == 3 and (image.data == np.rint([204 * 128 / 255, 128, 0])).all()
    image = read_image(saved(tmp_path, np.full((4, 5), 7, np.uint8), photometric="miniswhite"))
    assert (image.data == 248).all()


def test_one_bit(tmp_path):
    bits = numbers(9, 13) > 128
    path = tmp_path / "a.tif"
    Picture.fromarray(bits).save(path)
    np.testing.assert_array_equal(read_image(path).data, np.where(bits, 255, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tag(tmp_path, orientation):
    data = numbers(6, 9, 3)
    options = {"resolution": (10, 20), "resolutionunit": "MICROMETER"}
    path = saved(tmp_path, data, photometric="rgb", extratags=[(274, 3, 1, orientation, True)], **options)
    exif = Picture.Exif()
    exif[274] = orientation
    picture = Picture.fromarray(data)
    picture.getexif()[274] = orientation
    image = read_image(path)
    np.testing.assert_array_equal(image.data, np.asarray(ImageOps.exif_transpose(picture)))
    assert image.spacing == ((0.05, 0.1) if orientation < 5 else (0.1, 0.05))


def test_no_data_and_nan_are_not_valid(tmp_path):
    data = numbers(20, 30, dtype=np.float32)
    data[1, 2], data[3, 4], data[5, 6] = -9999, np.nan, np.inf
    image = read_image(saved(tmp_path, data, extratags=[(42113, 2, 0, "-9999", True)]))
    assert np.argwhere(~image.valid).tolist() == [[1, 2], [3, 4], [5, 6]]
    np.testing.assert_array_equal(image.data, data)
    with pytest.raises(InputError, match="only NaN or infinite"):
        read_image(saved(tmp_path, np.full((3, 4), np.nan, np.float32)))


def test_nan_in_one_frame_stays_in_that_frame(tmp_path):
    data = numbers(3, 20, 30, dtype=np.float32)
    data[1, 2, 3] = np.nan
    frames = split_frames(read_image(saved(tmp_path, data, metadata={"axes": "TYX"}, photometric="minisblack")))
    assert [frame.name for frame in frames] == ["a_t000", "a_t001", "a_t002"] and frames[0].axes == "YX"
    assert [int((~frame.valid).sum()) for frame in frames] == [0, 1, 0]
    np.testing.assert_array_equal(frames[2].data, data[2])


def test_several_images_in_one_file_are_not_silently_one(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(numbers(20, 30))
        writer.write(numbers(25, 30))
    with pytest.raises(InputError, match=r"2 images \(20 x 30, 25 x 30\)"):
        read_image(tmp_path / "a.tif")


def test_a_thumbnail_is_passed_over(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(numbers(5, 6), subfiletype=1)
        writer.write(numbers(50, 60))
    assert read_image(tmp_path / "a.tif").data.shape == (50, 60)


def test_complex_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="complex"):
        read_image(saved(tmp_path, np.ones((3, 4), np.complex64)))


@pytest.mark.data
def test_real_volumes(data_dir):
    image = read_image(data_dir / "volume3d" / "c5image.tif")
    assert image.data.shape == (124, 86, 94) and image.axes == "ZYX" and image.guessed_axes
    assert read_image(data_dir / "isbi2012" / "train-volume_00-19.tif").data.shape == (20, 512, 512)
