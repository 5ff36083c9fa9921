"""ND2, CZI and LIF: stand-ins of the packages' interfaces (no file of a microscope is at hand), whole, in parts, by scene."""

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, open_lazy, read_image

rng = np.random.default_rng(0)
ND2 = rng.integers(0, 4000, (3, 2, 4, 2, 20, 24)).astype(np.uint16)  # T P Z C Y X
LIF = rng.integers(0, 255, (2, 5, 3, 18, 22)).astype(np.uint8)  # T Z C Y X
CZI = rng.integers(0, 4000, (2, 3, 40, 50)).astype(np.uint16)  # C Z Y X, put together of tiles


class FakeNd2:
    closed = False
    sizes: ClassVar = {"T": 3, "P": 2, "Z": 4, "C": 2, "Y": 20, "X": 24}
    dtype = ND2.dtype
    frames_read = 0

    def __init__(self, path):
        points = [SimpleNamespace(name="well A"), SimpleNamespace(name="well B")]
        time = SimpleNamespace(type="TimeLoop", parameters=SimpleNamespace(periodMs=2500.0))
        self.experiment = [time, SimpleNamespace(type="XYPosLoop", parameters=SimpleNamespace(points=points))]
        channels = [SimpleNamespace(channel=SimpleNamespace(name=name)) for name in ("DAPI", "GFP")]
        self.metadata = SimpleNamespace(channels=channels)
        self.loop_indices = tuple(dict(zip("TPZ", place, strict=True)) for place in np.ndindex(3, 2, 4))

    def read_frame(self, number):
        FakeNd2.frames_read += 1
        return ND2[tuple(self.loop_indices[number].values())]

    def voxel_size(self):
        return SimpleNamespace(x=0.25, y=0.25, z=1.5)

    def close(self):
        self.closed = True


class FakeLif:
    def __init__(self, path):
        steps = {"Y": 3e-7, "X": 3e-7, "Z": 1e-6, "T": 4.0}
        coords = {letter: np.arange(3) * step for letter, step in steps.items()}
        whole = dict(dims=tuple("TZCYX"), shape=LIF.shape, dtype=LIF.dtype, coords=coords)
        stack = SimpleNamespace(name="stack", frame=lambda T, Z, C: LIF[T, Z, C], **whole)
        colour = rng.integers(0, 255, (16, 12, 3)).astype(np.uint8)
        picture = dict(dims=tuple("YXS"), shape=colour.shape, dtype=colour.dtype, coords={})
        self.images = [stack, SimpleNamespace(name="overview", frame=lambda: colour, **picture)]

    def close(self):
        pass


class FakeCzi:
    axes, dtype = "SCZYX0", CZI.dtype

    def __init__(self, path):
        self.filtered_subblock_directory = [
            self.block((0, c, z, 100 + y, 200 + x, 0), CZI[c, z, y : y + 25, x : x + 30])
            for c, z in np.ndindex(2, 3)
            for y in (0, 25)
            for x in (0, 30)
        ] + [self.block((1, 0, 0, 500, 0, 0), CZI[0, 0, :8, :9])]

    @staticmethod
    def block(start, pixels):
        tile = pixels[None, None, None, :, :, None]
        return SimpleNamespace(
            axes="SCZYX0", start=start, shape=tile.shape, data_segment=lambda: SimpleNamespace(data=lambda: tile)
        )

    def metadata(self):
        lengths = "".join(
            f'<Distance Id="{one}"><Value>{n}e-6</Value></Distance>' for one, n in (("X", 0.5), ("Y", 0.5), ("Z", 2))
        )
        names = (
            '<Dimensions><Channels><Channel Id="0" Name="EGFP"/><Channel Id="1" Name="DsRed"/></Channels></Dimensions>'
        )
        return f"<ImageDocument><Metadata>{names}{lengths}</Metadata></ImageDocument>"

    def close(self):
        pass


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    for name, made in (
        ("nd2", {"ND2File": FakeNd2}),
        ("liffile", {"LifFile": FakeLif}),
        ("czifile", {"CziFile": FakeCzi}),
    ):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__name__=name, **made))


@pytest.fixture
def files(tmp_path):
    starts = {"a.nd2": b"\xda\xce\xbe\x0a", "b.lif": b"\x70\0\0\0", "c.czi": b"ZISRAWFILE\0\0\0\0\0\0"}
    for name, start in starts.items():
        (tmp_path / name).write_bytes(start + bytes(2_000_000))
    return tmp_path


def test_nd2(files):
    image = read_image(f"{files / 'a.nd2'}:/1")
    assert (image.axes, image.spacing, image.unit) == ("TZCYX", (1.5, 0.25, 0.25), "micrometer")
    assert image.channels == ("DAPI", "GFP") and image.meta["interval"] == 2.5 and not image.guessed_axes
    np.testing.assert_array_equal(image.data, ND2[:, 1])
    np.testing.assert_array_equal(read_image(f"{files / 'a.nd2'}:/well A").data, ND2[:, 0])


def test_only_the_planes_that_are_asked_for_are_decoded(files):
    with open_lazy(f"{files / 'a.nd2'}:/0") as image:
        FakeNd2.frames_read = 0
        np.testing.assert_array_equal(image.data[1, 2:4, :, 5:9, ::3], ND2[1, 0, 2:4, :, 5:9, ::3])
        assert FakeNd2.frames_read == 2


def test_lif(files):
    image = read_image(f"{files / 'b.lif'}:/stack")
    assert (image.axes, image.meta["interval"]) == ("TZCYX", 4.0)
    np.testing.assert_allclose(image.spacing, (1.0, 0.3, 0.3))
    np.testing.assert_array_equal(image.data, LIF)
    picture = read_image(f"{files / 'b.lif'}:/1")
    assert (picture.axes, picture.data.shape) == ("YXC", (16, 12, 3))


def test_czi_is_put_together_of_its_tiles(files):
    image = read_image(f"{files / 'c.czi'}:/0")
    assert (image.axes, image.spacing, image.channels) == ("CZYX", (2.0, 0.5, 0.5), ("EGFP", "DsRed"))
    np.testing.assert_array_equal(image.data, CZI)
    with open_lazy(f"{files / 'c.czi'}:/0") as lazy:
        np.testing.assert_array_equal(lazy.data[1, 0:2, 20:33, 28:44:3], CZI[1, 0:2, 20:33, 28:44:3])
    np.testing.assert_array_equal(read_image(f"{files / 'c.czi'}:/1").data, CZI[0, 0, :8, :9])


def test_scenes_are_inputs_of_their_own(files):
    assert [source.name for source in find_inputs(files)] == ["a_0", "a_1", "b_0", "b_1", "c_0", "c_1"]
    assert [source.name for source in find_inputs(files / "b.lif")] == ["b_0", "b_1"]
    assert find_inputs(files)[1].read().axes == "TZCYX"


def test_a_file_of_several_scenes_is_refused_where_one_is_wanted(files):
    with pytest.raises(InputError, match=r"2 scenes: 0 \(well A\), 1 \(well B\); choose one, for example .*a\.nd2:/0"):
        read_image(files / "a.nd2")
    with pytest.raises(InputError, match="'9' of 0"):
        read_image(f"{files / 'a.nd2'}:/9")


@pytest.mark.parametrize(("name", "package"), [("a.nd2", "nd2"), ("b.lif", "liffile"), ("c.czi", "czifile")])
def test_without_the_extra_one_line_names_it(files, name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"the package {package}.*selfseg\[vendor\]"):
        find_inputs(files / name)[0].read()


def test_an_axis_without_a_meaning_here_is_named(files, monkeypatch):
    monkeypatch.setattr(FakeNd2, "sizes", {"T": 3, "custom": 2, "Y": 20, "X": 24})
    with pytest.raises(InputError, match="custom"):
        read_image(files / "a.nd2")


def test_a_damaged_file_is_one_line(files, monkeypatch):
    def fail(self, path):
        raise RuntimeError("no chunk map")

    monkeypatch.setattr(FakeNd2, "__init__", fail)
    with pytest.raises(InputError, match="no chunk map"):
        read_image(files / "a.nd2")
