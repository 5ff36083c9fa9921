"""Images over several files and several images in one: OME-TIFF series, companions, stopped acquisitions, plates, DICOM by name."""

import shutil
import uuid

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, open_lazy, read_image

SIZES = {"T": 3, "C": 2, "Z": 4}
PLANES = np.random.default_rng(0).integers(0, 255, (3, 2, 4, 12, 16), dtype=np.uint8)  # [T C Z Y X]
HEAD = '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def urn(number):
    return f"urn:uuid:{uuid.UUID(int=1 + number)}"


def description(names, axis="T", own=None, named=True):
    """OME metadata of an image whose places along an axis are each in a file of its own, planes in the order Z, C, T."""
    size = dict.fromkeys("TCZ", 1) | {letter: n for letter, n in SIZES.items()}
    rows = []
    for number, name in enumerate(names):
        ifd = 0
        for t in [number] if axis == "T" else range(size["T"]):
            for c in [number] if axis == "C" else range(size["C"]):
                for z in [number] if axis == "Z" else range(size["Z"]):
                    told = f'<UUID FileName="{name}">{urn(number)}</UUID>' if named else ""
                    rows.append(
                        f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{ifd}" PlaneCount="1">{told}</TiffData>'
                    )
                    ifd += 1
    channels = "".join(f'<Channel ID="Channel:0:{c}" Name="dye {c}" SamplesPerPixel="1"/>' for c in range(size["C"]))
    own_uuid = "" if own is None else f' UUID="{urn(own)}"'
    sizes = " ".join(f'Size{letter}="{n}"' for letter, n in size.items())
    return (
        f'{HEAD}{own_uuid}><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="16" SizeY="12" {sizes} '
        f'PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="2">{channels}{"".join(rows)}</Pixels></Image></OME>'
    )


def write(folder, axis="T", names=None, text=None):
    """A set of files, and their paths."""
    names = names or [f"img_{axis}{i}.ome.tif" for i in range(SIZES[axis])]
    paths = []
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pages = PLANES.take(number, "TCZ".index(axis)).reshape(-1, 12, 16)
        xml = description(names, axis, number) if text is None else text(number)
        with tifffile.TiffWriter(path, ome=False) as tif:
            for i, page in enumerate(pages):
                tif.write(page, description=xml if i == 0 else None, metadata=None, contiguous=False)
        paths.append(path)
    return paths


def check_whole(image):
    assert image.axes == "TCZYX" and image.spacing == (2, 0.5, 0.5) and image.notes == ()
    assert image.channels == ("dye 0", "dye 1")
    assert_array_equal(image.data, PLANES)


@pytest.mark.parametrize("axis", "TCZ")
def test_a_series_over_several_files_is_one_input_and_any_of_them_opens_it(tmp_path, axis):
    paths = write(tmp_path, axis)
    lines = []
    (source,) = find_inputs(tmp_path, say=lines.append)
    assert source.name == f"img_{axis}0" and "of a series that another one stands for" in lines[0]
    check_whole(source.read())
    for path in paths:
        check_whole(read_image(path))
        with open_lazy(path) as lazy:
            assert_array_equal(lazy.data[1:, 1, 2:, 3:7, ::2], PLANES[1:, 1, 2:, 3:7, ::2])
    assert len(find_inputs(paths)) == len(find_inputs([str(path) for path in paths])) == 1
    assert len(find_inputs(f"{tmp_path}/*.tif")) == 1


def test_names_need_no_ome_in_them_and_may_lead_into_a_folder_below(tmp_path):
    write(tmp_path / "a", names=["t0.tif", "t1.tif", "t2.tif"])
    write(tmp_path / "b", names=["t0.ome.tif", "more/t1.ome.tif", "more/t2.ome.tif"])
    found = find_inputs(tmp_path)
    assert [source.name for source in found] == ["a/t0", "b/t0"]
    for source in found:
        check_whole(source.read())


def test_one_file_alone_gives_its_own_planes_and_names_the_others(tmp_path):
    paths = write(tmp_path / "all")
    shutil.copy(paths[1], tmp_path / "img_T1.ome.tif")
    image = find_inputs(tmp_path / "img_T1.ome.tif")[0].read()
    assert_array_equal(image.data, PLANES[1])
    assert image.axes == "CZYX" and image.channels == ("dye 0", "dye 1") and image.spacing == (2, 0.5, 0.5)
    assert "2 of the 3 files of its series are not there: img_T0.ome.tif, img_T2.ome.tif" in " ".join(image.notes)
    paths[2].unlink()
    image = read_image(paths[0])
    assert_array_equal(image.data, PLANES[:2])
    assert len(find_inputs(tmp_path / "all")) == 1


def test_a_file_alone_of_a_set_by_channels(tmp_path):
    paths = write(tmp_path, "C")
    paths[0].unlink()
    image = read_image(paths[1])
    assert image.axes == "TZYX"
    assert_array_equal(image.data, PLANES[:, 1])


def test_planes_that_lie_elsewhere_are_looked_for_beside_the_file(tmp_path):
    (tmp_path / "secret").mkdir()
    (path,) = write(tmp_path / "secret", names=["t1.tif"], text=lambda _: description(["t1.tif"], own=0))
    names = ["t0.tif", f"../secret/{path.name}", "C:\\data\\t2.tif"]
    (tmp_path / "a").mkdir()
    for number, name in enumerate(("t0.tif", "t2.tif")):
        pages = PLANES[2 * number].reshape(-1, 12, 16)
        with tifffile.TiffWriter(tmp_path / "a" / name, ome=False) as tif:
            for i, page in enumerate(pages):
                tif.write(page, description=description(names, own=2 * number) if i == 0 else None, metadata=None)
    image = read_image(tmp_path / "a" / "t0.tif")
    assert_array_equal(image.data, PLANES[[0, 2]])
    assert "t1.tif" in image.notes[0]


@pytest.mark.parametrize("master", ["set.companion.ome", "img_T0.ome.tif"])
def test_metadata_in_another_file_are_found(tmp_path, master):
    names = [f"img_T{i}.ome.tif" for i in range(3)]
    whole = description(names)
    only = f'{HEAD} UUID="{{}}"><BinaryOnly MetadataFile="{master}" UUID="{urn(9)}"/></OME>'

    def text(number):
        return description(names, own=0) if names[number] == master else only.format(urn(number))

    paths = write(tmp_path, names=names, text=text)
    if master.endswith(".ome"):
        (tmp_path / master).write_text(whole, encoding="utf-8")
    for path in paths:
        check_whole(read_image(path))
    assert [source.name for source in find_inputs(tmp_path)] == ["img_T0"]
    (tmp_path / master).unlink()
    image = read_image(paths[1])
    assert_array_equal(image.data.reshape(8, 12, 16), PLANES[1].reshape(8, 12, 16))
    assert master in image.notes[0] and "not there" in image.notes[0]


def test_positions_in_a_file_each_are_images_of_their_own(tmp_path):
    names = ["pos0.ome.tif", "pos1.ome.tif"]
    images = "".join(
        f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint8" SizeX="16" SizeY="12" SizeZ="4" SizeC="1" '
        f'SizeT="1" PhysicalSizeX="{i + 1}" PhysicalSizeY="{i + 1}"><TiffData PlaneCount="4"><UUID FileName="{name}">{urn(i)}</UUID>'
        "</TiffData></Pixels></Image>"
        for i, name in enumerate(names)
    )
    for i, name in enumerate(names):
        xml = f'{HEAD} UUID="{urn(i)}">{images}</OME>'
        tifffile.imwrite(tmp_path / name, PLANES[i, 0], description=xml, metadata=None, photometric="minisblack")
    assert [source.name for source in find_inputs(tmp_path)] == ["pos0", "pos1"]
    for i, name in enumerate(names):
        image = read_image(tmp_path / name)
        assert_array_equal(image.data, PLANES[i, 0])
        assert image.spacing[1:] == (i + 1, i + 1)


@pytest.mark.parametrize(
    ("n_planes", "kept"),
    [(24, np.s_[:]), (17, np.s_[:2]), (16, np.s_[:2]), (9, np.s_[:1]), (6, np.s_[:1, :1]), (3, np.s_[:1, :1, :3])],
)
@pytest.mark.parametrize("each", [True, False])
def test_an_acquisition_that_was_stopped_gives_what_there_is(tmp_path, n_planes, kept, each):
    xml = description(["a.ome.tif"] * 3, named=False)
    if each:  # every plane is listed, with its page
        for number in range(24):
            t, c, z = np.unravel_index(number, (3, 2, 4))
            old = f'FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{c * 4 + z}"'
            xml = xml.replace(old, f'FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{number}"')
    else:
        xml = xml[: xml.index("<TiffData")] + "<TiffData/>" + xml[xml.index("</Pixels>") :]
    pages = PLANES.reshape(-1, 12, 16)[:n_planes]
    tifffile.imwrite(tmp_path / "a.ome.tif", pages, description=xml, metadata=None, photometric="minisblack")
    image = read_image(tmp_path / "a.ome.tif")
    expected = PLANES[kept]
    assert_array_equal(image.data, expected.reshape([n for n in expected.shape if n > 1]))
    assert (image.notes == ()) == (n_planes == 24)
    if n_planes < 24:
        assert f"{24 - n_planes} of the 24 pages" in image.notes[0]


def test_a_page_that_lies_beyond_the_end_is_damage_and_no_stopped_acquisition(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES[:, 0], ome=True, metadata={"axes": "TZYX"})
    content = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "b.ome.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_image(tmp_path / "b.ome.tif")


def plate(path, wells, version="0.4", plate_wells=None):
    """A plate whose wells have so many fields, each of one value."""
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)

    def put(group, attributes):
        group.attrs.update(attributes if version == "0.4" else {"ome": {"version": version, **attributes}})

    put(root, {"plate": {"wells": [{"path": well} for well in plate_wells or wells], "version": version}})
    value = 0
    for well, fields in wells.items():
        group = root.create_group(well)
        put(group, {"well": {"images": [{"path": field, "acquisition": i} for i, field in enumerate(fields)]}})
        for field in fields:
            value += 1
            image = group.create_group(field)
            image.create_array("0", data=np.full((12, 16), value, np.uint8))
            axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
            scale = [{"type": "scale", "scale": [0.5, 0.5]}]
            put(
                image,
                {"multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]},
            )
    return path


WELLS = {"A/1": ["0", "1"], "A/12": ["0"], "B/3": ["acq0_0", "acq1_0"]}
FIELDS = ["A/1/0", "A/1/1", "A/12/0", "B/3/acq0_0", "B/3/acq1_0"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_fields_of_a_plate_are_images_named_by_row_and_column(tmp_path, version):
    path = plate(tmp_path / "deep" / "p.ome.zarr", WELLS, version)
    for where, front in (
        (path, "p/"),
        (tmp_path, "deep/p/"),
        (f"{tmp_path}/deep/*.zarr", "p/"),
        (f"{path}/*/*/*", ""),
        (f"{path}/*/*", ""),
        ([path], "p/"),
        ([path / field for field in FIELDS], "p/"),
        ([path / "A" / "1", path / "A" / "12", path / "B" / "3"], "p/"),
    ):
        found = find_inputs(where)
        assert [source.name for source in found] == [front + field for field in FIELDS], where
        assert [int(source.read().data[0, 0]) for source in found] == [1, 2, 3, 4, 5]
    assert [source.name for source in find_inputs(f"{path}/A/*/0")] == ["A/1/0", "A/12/0"]
    assert [source.name for source in find_inputs(path / "A" / "1")] == ["p/A/1/0", "p/A/1/1"]
    assert find_inputs(path / "B" / "3" / "acq1_0")[0].name == "p/B/3/acq1_0"


def test_a_field_that_is_not_there_fails_by_its_name(tmp_path):
    path = plate(tmp_path / "p.zarr", WELLS, plate_wells=[*WELLS, "C/5"])
    shutil.rmtree(path / "A" / "12" / "0")
    found = find_inputs(path)
    assert len(found) == 6
    for source in found:
        if "A/12" in str(source.path) or "C/5" in str(source.path):
            with pytest.raises(InputError, match=r"A/12/0|C/5"):
                source.read()
        else:
            source.read()


def test_a_plate_that_points_outside_is_refused(tmp_path):
    path = plate(tmp_path / "p.zarr", {"A/1": ["0"]}, plate_wells=["../other"])
    with pytest.raises(InputError, match="point outside of it"):
        find_inputs(path)


def test_dicom_files_that_are_named_one_by_one_are_a_series_if_all_of_it_is_named(tmp_path):
    pytest.importorskip("pydicom")
    from reference.image_files import dataset

    paths = []
    for number in range(4):
        paths.append(tmp_path / f"IM{number}")
        one = dataset(PLANES[0, 0, number].astype(np.uint16), (0.0, 0.0, 3.0 * number), number)
        one.save_as(paths[-1], enforce_file_format=True)
    (source,) = find_inputs(paths)
    assert source.name == tmp_path.name and source.read().data.shape == (4, 12, 16)
    assert [source.read().data.ndim for source in find_inputs(paths[:3])] == [2, 2, 2]
