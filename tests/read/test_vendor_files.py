"""CZI files that Zeiss's own library writes, read by czifile: `make test-vendor`, in a virtual environment of its own."""

import numpy as np
import pytest

from selfseg.read import find_inputs, open_lazy


@pytest.mark.parametrize(
    "compression", ["uncompressed:", "zstd0:ExplicitLevel=3", "zstd1:ExplicitLevel=3;PreProcess=HiLoByteUnpack"]
)
def test_a_czi_that_the_library_of_zeiss_wrote(tmp_path, compression):
    pytest.importorskip("czifile")
    from_zeiss = pytest.importorskip("pylibCZIrw.czi")
    values = np.random.default_rng(0).integers(0, 4000, (2, 2, 3, 2, 60, 70), np.uint16)  # scenes, T, Z, C, Y, X
    with from_zeiss.create_czi(str(tmp_path / "a.czi"), compression_options=compression) as file:
        for scene, t, z, c in np.ndindex(values.shape[:4]):
            plane = {"T": t, "Z": z, "C": c}
            for left in (0, 40):  # two tiles, of 40 and 30 columns
                tile = values[scene, t, z, c, :, left : left + 40, None]
                file.write(data=np.ascontiguousarray(tile), plane=plane, scene=scene, location=(scene * 500 + left, 0))
        sizes = {"scale_x": 0.5e-6, "scale_y": 0.5e-6, "scale_z": 2e-6}
        file.write_metadata(document_name="a", channel_names={0: "DAPI", 1: "GFP"}, **sizes)
    assert [source.name for source in find_inputs(tmp_path / "a.czi")] == ["a_0", "a_1"]
    for scene in range(2):
        with open_lazy(f"{tmp_path / 'a.czi'}:/{scene}") as image:
            assert (image.axes, image.spacing, image.unit) == ("TCZYX", (2.0, 0.5, 0.5), "micrometer")
            assert image.channels == ("DAPI", "GFP")
            assert (image.data[...] == np.swapaxes(values[scene], 1, 2)).all()
            assert (image.data[1, 0, 2, 10:20, 35:50] == values[scene, 1, 2, 0, 10:20, 35:50]).all()


@pytest.mark.parametrize("compression", ["uncompressed:", "zstd1:ExplicitLevel=3"])
def test_a_colour_picture_in_a_czi_is_rgb(tmp_path, compression):
    pytest.importorskip("czifile")
    from_zeiss = pytest.importorskip("pylibCZIrw.czi")
    picture = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
    with from_zeiss.create_czi(str(tmp_path / "a.czi"), compression_options=compression) as file:
        file.write(data=np.ascontiguousarray(picture[..., ::-1]))  # it takes BGR
        file.write_metadata(document_name="a", scale_x=1e-6, scale_y=1e-6)
    with open_lazy(tmp_path / "a.czi") as image:
        assert image.axes == "YXC" and (image.data[...] == picture).all()
