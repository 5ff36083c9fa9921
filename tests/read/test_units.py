"""Each axis has a unit of its own, and each image of a file its own sizes and channels."""

import numpy as np
import pytest
import tifffile

from selfseg.core.errors import InputError
from selfseg.core.units import common_unit, unit_name
from selfseg.read import read_image

VOLUME = np.random.default_rng(0).integers(0, 255, (5, 12, 16), dtype=np.uint8)
SPELLED = ["um", "Âµm", "µm", "μm", "micron", "Microns", r"\u00B5m", "micrometre", " um "]


@pytest.mark.parametrize("unit", SPELLED)
def test_a_micrometre_by_any_name(unit):
    assert unit_name(unit) == "micrometer"


@pytest.mark.parametrize(
    ("sizes", "units", "expected", "unit"),
    [
        ((2, 500, 500), ("um", "nm", "nm"), (2000, 500, 500), "nanometer"),
        ((2000, 0.5, 0.5), ("nm", "um", "um"), (2, 0.5, 0.5), "micrometer"),
        ((0.002, 0.5, 5000), ("mm", "um", "Å"), (20_000, 5000, 5000), "angstrom"),
        ((1, 25.4, 25.4), ("inch", "mm", "mm"), (25.4, 25.4, 25.4), "millimeter"),
        ((25.4, 1, 1), ("mm", "in", "in"), (25_400, 25_400, 25_400), "micrometer"),
        ((3, 2, 1), ("", "", "nm"), (3, 2, 1), "nanometer"),
        ((3, 2, 1), ("pixel", "pixel", "pixel"), (3, 2, 1), "pixel"),
        ((3, 2, 1), ("", "", ""), (3, 2, 1), "pixel"),
        ((3, 2, 1), ("cubit", "cubit", "cubit"), (3, 2, 1), "cubit"),
    ],
)
def test_one_unit_for_all_axes(sizes, units, expected, unit):
    named = common_unit(dict(zip("ZYX", sizes, strict=True)), dict(zip("ZYX", units, strict=True)))
    assert tuple(named[0][letter] for letter in "ZYX") == pytest.approx(expected) and named[1:] == (unit, ())


@pytest.mark.parametrize("strange", ["pixel", "reference frame"])
def test_what_is_no_length_is_unknown_and_said(strange):
    sizes, unit, (note,) = common_unit({"Z": 3, "Y": 0.5, "X": 0.5}, {"Z": strange, "Y": "um", "X": "um"})
    assert sizes == {"Y": 0.5, "X": 0.5} and unit == "micrometer"
    assert note == f"sizes are in micrometer, but along Z in '{strange}': taken as unknown"
    sizes, unit, (note,) = common_unit({"Z": 3, "Y": 1, "X": 1}, {"Z": "um", "Y": strange, "X": strange})
    assert sizes == {"Y": 1, "X": 1} and unit == strange and "along Z in 'um'" in note


def ome(path, x, y, z):
    metadata = {"axes": "ZYX"}
    for letter, (size, unit) in zip("XYZ", (x, y, z), strict=True):
        metadata |= {f"PhysicalSize{letter}": size} | ({f"PhysicalSize{letter}Unit": unit} if unit else {})
    tifffile.imwrite(path, VOLUME, ome=True, photometric="minisblack", metadata=metadata)
    return read_image(path)


def test_ome_units_by_axis(tmp_path):
    image = ome(tmp_path / "a.ome.tif", (500, "nm"), (500, "nm"), (2, "µm"))
    assert image.unit == "nanometer" and image.spacing == (2000, 500, 500) and image.notes == ()
    image = ome(tmp_path / "b.ome.tif", (0.5, ""), (500, "nm"), (0.002, "mm"))  # the schema's unit is the micrometre
    assert image.unit == "micrometer" and image.spacing == pytest.approx((2, 0.5, 0.5))
    image = ome(tmp_path / "c.ome.tif", (0.5, "µm"), (0.5, "µm"), (3, "reference frame"))
    assert image.unit == "micrometer" and image.spacing == (1, 0.5, 0.5) and "along Z" in image.notes[0]


@pytest.mark.parametrize(
    ("units", "spacing", "expected"),
    [
        ({"unit": "micron", "zunit": "nm"}, 2000.0, (2, 0.5, 0.5)),
        ({"unit": "micron", "yunit": "nm"}, 2.0, (2, 0.0005, 0.5)),
        ({"unit": r"\u00B5m"}, 2.0, (2, 0.5, 0.5)),
        ({"unit": "um", "zunit": "mm"}, 0.002, (2, 0.5, 0.5)),
        ({"unit": "inch"}, 0.5, (12_700, 12_700, 12_700)),
    ],
)
def test_imagej_units_by_axis(tmp_path, units, spacing, expected):
    metadata = {"axes": "ZYX", "spacing": spacing, **units}
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, imagej=True, resolution=(2, 2), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert image.unit == "micrometer" and image.spacing == pytest.approx(expected)


def test_imagej_pixels(tmp_path):
    metadata = {"axes": "ZYX", "spacing": 3.0, "unit": "pixel"}
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, imagej=True, metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert image.unit == "pixel" and image.spacing == (3, 1, 1)


def test_each_image_of_a_file_has_its_own_sizes_and_channels(tmp_path):
    path = tmp_path / "a.ome.tif"
    kinds = [((2, 12, 16), 0.1, ["DAPI", "GFP"]), ((2, 10, 16), 0.4, ["RFP", "BF"]), ((2, 12, 16), 0.7, ["A", "B"])]
    with tifffile.TiffWriter(path, ome=True) as tif:
        for shape, size, names in kinds:
            sizes = {"PhysicalSizeX": size, "PhysicalSizeY": 2 * size, "PhysicalSizeYUnit": "µm"}
            metadata = {"axes": "CYX", **sizes, "Channel": {"Name": names}}
            tif.write(np.zeros(shape, np.uint8), photometric="minisblack", metadata=metadata)
    for number, (shape, size, names) in enumerate(kinds):
        image = read_image(f"{path}:/{number}")
        assert image.data.shape == shape and image.channels == tuple(names)
        assert image.spacing == pytest.approx((2 * size, size))
    with pytest.raises(InputError, match="3 images"):
        read_image(path)


def test_images_that_tifffile_passes_over_do_not_shift_the_sizes(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for shape, size in (((8, 9), 0.1), ((12, 16), 0.4)):
            tif.write(np.zeros(shape, np.uint8), metadata={"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size})
    xml = tifffile.TiffFile(path).ome_metadata
    before = xml.index("<TiffData")
    first = xml[before : xml.index("</Pixels>")]  # the planes of the first image are not there
    tifffile.tiffcomment(path, xml.replace(first, "", 1).encode())
    image = read_image(path)
    assert image.data.shape == (12, 16) and image.spacing == (0.4, 0.4)


def test_zarr_units_by_axis_and_scales_of_time_and_channels(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.stack([np.stack([VOLUME] * 2)] * 3))
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "nanometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space"},
    ]
    steps = [
        {"type": "scale", "scale": [-2.0, -1.0, 2000.0, 0.5, 0.5]},
        {"type": "translation", "translation": [0, 0, 4000.0, 1.0, 0.0]},
    ]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    ]
    image = read_image(tmp_path / "a.ome.zarr")
    assert image.axes == "TCZYX" and image.unit == "micrometer" and image.spacing == (2, 0.5, 0.5)
    assert image.meta == {"offset": {"Z": 4.0, "Y": 1.0, "X": 0.0}}
    steps[0]["scale"][0], axes[0]["unit"] = 500.0, "millisecond"
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    ]
    assert read_image(tmp_path / "a.ome.zarr").meta["interval"] == 0.5
