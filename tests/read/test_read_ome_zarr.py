"""OME-Zarr and zarr as others write them, found as one input, and hostile folders that are refused."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, open_lazy, read_image
from selfseg.read.labels import read_labels

zarr = pytest.importorskip("zarr")
RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 60_000, (2, 3, 40, 50), dtype=np.uint16)  # [C Z Y X]
LABELS = RNG.integers(0, 5, (3, 40, 50), dtype=np.uint8)


def by_ome_zarr(path, version, labels=True):
    """An image, and labels, by ome-zarr-py's own writer."""
    pytest.importorskip("ome_zarr")
    from ome_zarr.format import format_from_version
    from ome_zarr.writer import write_image, write_labels

    kind = format_from_version(version)
    group = zarr.open_group(path, mode="w", zarr_format=kind.zarr_format)
    sizes = {"scale": {"z": 2.0, "y": 0.5, "x": 0.25}, "axes_units": dict.fromkeys("zyx", "micrometer")}
    write_image(VOLUME, group, fmt=kind, axes="czyx", scale_factors=(2,), **sizes)
    if labels:
        write_labels(LABELS, group, "cells", fmt=kind, axes="zyx", scale_factors=(2,), **sizes)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_as_ome_zarr_py_writes_it(tmp_path, version):
    path = by_ome_zarr(tmp_path / "a.ome.zarr", version)
    image = read_image(path)
    np.testing.assert_array_equal(image.data, VOLUME)
    assert (image.axes, image.spacing, image.unit, image.name) == ("CZYX", (2.0, 0.5, 0.25), "micrometer", "a")
    assert not image.guessed_axes
    np.testing.assert_array_equal(read_labels(path), LABELS)
    np.testing.assert_array_equal(read_image(path / "labels" / "cells").data, LABELS)
    with open_lazy(path, level=1) as coarse:
        assert coarse.data.shape == (2, 3, 20, 25) and coarse.spacing == (2.0, 1.0, 0.5)
    with pytest.raises(InputError, match="one of 2 levels, got 2"):
        open_lazy(path, level=2)


def test_the_same_pixels_as_the_reference_reader(tmp_path):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path = by_ome_zarr(tmp_path / "a.zarr", "0.5", labels=False)
    node = next(iter(Reader(parse_url(path))()))
    for level, data in enumerate(node.data):
        with open_lazy(path, level=level) as image:
            np.testing.assert_array_equal(image.data[...], np.asarray(data))


def test_a_zarr_folder_is_one_input_wherever_it_lies(tmp_path):
    by_ome_zarr(tmp_path / "deep" / "a.ome.zarr", "0.5")
    by_ome_zarr(tmp_path / "b.zarr", "0.4")
    Picture.fromarray(VOLUME[0, 0].astype(np.uint8)).save(tmp_path / "c.png")
    assert [source.name for source in find_inputs(tmp_path)] == ["b", "c", "deep/a"]
    for where in (tmp_path / "b.zarr", f"{tmp_path}/*.zarr", f"{tmp_path}/b*"):
        (source,) = find_inputs(where)
        assert source.name == "b"
        np.testing.assert_array_equal(source.read().data, VOLUME)
    before = source.fingerprint()
    assert before == find_inputs(tmp_path / "b.zarr")[0].fingerprint()
    chunk = next(path for path in (tmp_path / "b.zarr").rglob("0") if path.is_file())
    chunk.write_bytes(chunk.read_bytes() + b"x")
    assert source.fingerprint() == before != find_inputs(tmp_path / "b.zarr")[0].fingerprint()  # hashed once a run


@pytest.mark.parametrize("version", [2, 3])
def test_plain_arrays(tmp_path, version):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(20, 30), dtype="u1", chunks=(8, 8), zarr_format=version, fill_value=7,
        dimension_names=("y", "x") if version == 3 else None,
    )  # fmt: skip
    array[:10] = 1
    expected = np.full((20, 30), 7)
    expected[:10] = 1
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").data, expected)
    group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=version)
    group.create_array("raw", data=expected)
    np.testing.assert_array_equal(read_image(tmp_path / "g.zarr").data, expected)
    group.create_array("other", data=expected)
    with pytest.raises(InputError, match=r"got 2: other, raw; choose one: .*g\.zarr/other"):
        read_image(tmp_path / "g.zarr")
    np.testing.assert_array_equal(read_image(tmp_path / "g.zarr" / "raw").data, expected)
    np.testing.assert_array_equal(find_inputs(f"{tmp_path}/g.zarr:/raw")[0].read().data, expected)


def test_shards_and_names_of_axes(tmp_path):
    names = ("time", "y", "x", "channel")
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(4, 32, 32, 2),
        dtype="f4",
        chunks=(1, 8, 8, 2),
        shards=(2, 16, 16, 2),
        dimension_names=names,
    )
    array[:] = RNG.random((4, 32, 32, 2))
    image = read_image(tmp_path / "a.zarr")
    assert image.axes == "TYXC" and not image.guessed_axes
    with open_lazy(tmp_path / "a.zarr") as lazy:
        np.testing.assert_array_equal(lazy.data[1:3, 5:20, ::3, 1], image.data[1:3, 5:20, ::3, 1])


def test_older_versions_of_the_format(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=VOLUME[None])
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}]}]
    assert read_image(tmp_path / "a.zarr").axes == "CZYX"
    group.attrs["multiscales"] = [{"version": "0.3", "axes": ["t", "c", "z", "y", "x"], "datasets": [{"path": "0"}]}]
    image = read_image(tmp_path / "a.zarr")
    assert image.axes == "CZYX" and image.spacing == (1.0, 1.0, 1.0)


def test_one_field_of_a_plate_is_read_and_several_are_named(tmp_path):
    plate = zarr.open_group(tmp_path / "p.zarr", mode="w")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    plate.create_group("A").create_group("1")
    by_ome_zarr(tmp_path / "p.zarr" / "A" / "1" / "0", "0.5", labels=False)
    np.testing.assert_array_equal(read_image(tmp_path / "p.zarr").data, VOLUME)
    by_ome_zarr(tmp_path / "p.zarr" / "A" / "1" / "1", "0.5", labels=False)
    with pytest.raises(InputError, match=r"one image, got 2: A/1/0, A/1/1; choose one: .*p\.zarr/A/1/0"):
        read_image(tmp_path / "p.zarr")
    np.testing.assert_array_equal(read_image(tmp_path / "p.zarr/A/1/1").data, VOLUME)


def changed(path, change):
    """Change the attributes of an OME-Zarr 0.5 image."""
    content = json.loads((path / "zarr.json").read_text())
    change(content["attributes"]["ome"]["multiscales"][0])
    (path / "zarr.json").write_text(json.dumps(content))


def axes_of(names):
    return lambda scales: scales.update(axes=[{"name": name, "type": "space"} for name in names])


def newer(path, own, further=None):
    """An image of NGFF 0.6, whose axes are in a coordinate system."""
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=VOLUME)
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"
    ]
    ends = {"input": "0", "output": "physical"}
    scales = {"coordinateSystems": [{"name": "array", "axes": axes[::-1]}, {"name": "physical", "axes": axes}]}
    scales["datasets"] = [{"path": "0", "coordinateTransformations": [{**own, **ends}]}]
    if further is not None:
        scales["coordinateTransformations"] = [{**further, "input": "physical", "output": "world"}]
    group.attrs["ome"] = {"version": "0.6", "multiscales": [scales]}
    return read_image(path)


SCALE = {"type": "scale", "scale": [1, 2.0, 0.5, 0.25]}
SHIFT = {"type": "translation", "translation": [0, 10.0, 0, 1.0]}
MATRIX = {"type": "affine", "affine": [[1, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0]]}
STRANGE = [
    MATRIX,
    {"type": "rotation", "rotation": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]]},
    {"type": "mapAxis", "mapAxis": [0, 1, 3, 2]},
    {"type": "scale", "path": "scale"},
    {"type": "sequence", "transformations": [SCALE, MATRIX]},
]


def test_transformations_of_a_newer_version_are_applied_or_told(tmp_path):
    image = newer(tmp_path / "a.zarr", SCALE)
    assert image.axes == "CZYX" and image.spacing == (2.0, 0.5, 0.25) and image.unit == "micrometer"
    assert image.notes == ("its metadata are of NGFF 0.6; what is newer than 0.5 may be overlooked",)
    image = newer(tmp_path / "b.zarr", {"type": "sequence", "transformations": [SCALE, {"type": "identity"}, SHIFT]})
    assert image.spacing == (2.0, 0.5, 0.25) and image.meta["offset"] == {"Z": 10.0, "Y": 0.0, "X": 1.0}
    for strange in STRANGE:
        image = newer(tmp_path / "c.zarr", strange)
        assert image.spacing == (1.0, 1.0, 1.0) and image.unit == "pixel" and image.meta == {}
        assert "more than scale and translation: pixel sizes and place are taken as unknown" in image.notes[1]
        np.testing.assert_array_equal(image.data, VOLUME)
        image = newer(tmp_path / "d.zarr", SCALE, strange)
        assert image.spacing == (2.0, 0.5, 0.25) and "they are not applied" in image.notes[1]


def test_a_matrix_in_a_known_version_is_told_too(tmp_path):
    path = by_ome_zarr(tmp_path / "a.zarr", "0.5", labels=False)
    changed(path, lambda scales: scales["datasets"][0].update(coordinateTransformations=[MATRIX]))
    image = read_image(path)
    assert "affine" in image.notes[0] and image.spacing == (1.0, 1.0, 1.0)


SENSELESS = {
    "outside": lambda scales: scales["datasets"][0].update(path="../secret.zarr"),
    "absolute": lambda scales: scales["datasets"][0].update(path="/etc"),
    "gone": lambda scales: scales["datasets"][0].update(path="nowhere"),
    "number": lambda scales: scales["datasets"][0].update(path=17),
    "none": lambda scales: scales.update(datasets=[]),
    "letters": axes_of("abcd"),
    "twice": axes_of("zzyx"),
    "few": axes_of("yx"),
    "zero": lambda scales: scales["datasets"][0].update(
        coordinateTransformations=[{"type": "scale", "scale": [1, 0, 1, 1]}]
    ),
    "short": lambda scales: scales["datasets"][0].update(coordinateTransformations=[{"type": "scale", "scale": [1]}]),
    "words": lambda scales: scales["datasets"][0].update(
        coordinateTransformations=[{"type": "scale", "scale": ["a"] * 4}]
    ),
    "list": lambda scales: scales.update(datasets=["0"]),
}


@pytest.mark.parametrize("name", SENSELESS)
def test_senseless_metadata_are_one_line(tmp_path, name):
    secret = zarr.create_array(tmp_path / "secret.zarr", shape=VOLUME.shape, dtype="u2")
    secret[:] = 1
    path = by_ome_zarr(tmp_path / "a.zarr", "0.5", labels=False)
    changed(path, SENSELESS[name])
    for read in (read_image, open_lazy):
        with pytest.raises(InputError) as error:
            read(path)
        assert "a.zarr" in str(error.value) and "\n" not in str(error.value)


def test_a_label_group_that_points_outside_is_refused(tmp_path):
    path = by_ome_zarr(tmp_path / "a.zarr", "0.5")
    content = json.loads((path / "labels" / "zarr.json").read_text())
    content["attributes"]["ome"]["labels"] = ["../../elsewhere"]
    (path / "labels" / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="point outside of it"):
        read_labels(path)


def test_a_codec_that_unpickles_is_refused_before_a_byte_is_decoded(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (exec, ("import sys; sys.modules['unpickled_by_zarr'] = sys",))

    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(4, 4), dtype="u1", chunks=(4, 4), zarr_format=2, compressors=None)
    array[:] = 1
    metadata = json.loads((path / ".zarray").read_text())
    metadata["filters"] = [{"id": "pickle", "protocol": 5}]
    (path / ".zarray").write_text(json.dumps(metadata))
    (path / "0.0").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="codecs of numbers, got pickle"):
        read_image(path)
    assert "unpickled_by_zarr" not in sys.modules
    shutil.rmtree(path)
    zarr.create_array(path, shape=(4, 4), dtype="u1", chunks=(4, 4))
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["codecs"] = [{"name": "numcodecs.pickle", "configuration": {"protocol": 5}}, *metadata["codecs"]]
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="codecs of numbers, got pickle"):
        read_image(path)


def test_absurd_sizes_are_refused_before_anything_is_allocated(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(10**6, 10**6, 10**3), dtype="u1", chunks=(100, 100, 100))
    with pytest.raises(InputError, match=r"at most .* GB of pixels, got 1000000 x"):
        read_image(tmp_path / "a.zarr")
    with open_lazy(tmp_path / "a.zarr") as image:
        assert image.data[7, 9, :3].tolist() == [0, 0, 0]
    array = zarr.create_array(tmp_path / "b.zarr", shape=(100, 100), dtype="u1", chunks=(100, 100))
    array[:] = 1
    content = json.loads((tmp_path / "b.zarr" / "zarr.json").read_text())
    content["chunk_grid"]["configuration"]["chunk_shape"] = [10**6, 10**6]
    (tmp_path / "b.zarr" / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="chunks of at most"):
        read_image(tmp_path / "b.zarr")


def test_folders_that_only_look_like_it(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match="a folder without zarr metadata"):
        read_image(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.zarr: expected a whole image file"):
        read_image(tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    with pytest.raises(InputError, match="one image or array, got 0"):
        read_image(tmp_path / "b.zarr")


def test_without_zarr_the_message_names_the_extra(tmp_path, monkeypatch):
    path = by_ome_zarr(tmp_path / "a.zarr", "0.5", labels=False)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"pip install 'selfseg\[zarr\]'"):
        read_image(path)
