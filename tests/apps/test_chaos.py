"""A few kills of `make chaos`, and that it would see what is broken or differs."""

import json

import numpy as np
import pytest

from chaos import chaos
from reference.whole import broken_files, differing_bytes, unfinished_files


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "predict in parts", "benchmark"])
def test_killed_and_gone_on_with_is_as_if_left_alone(tmp_path, name):
    tally = chaos(tmp_path, kills=1, seed=3, seconds=240, chosen=[name])
    assert (tally.survived, tally.broken, tally.differing) == (1, 0, 0)


def fill(folder):
    import tifffile
    from PIL import Image as Picture
    from safetensors.numpy import save_file

    zarr = pytest.importorskip("zarr")
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.arange(400, dtype=np.uint8).reshape(20, 20))
    Picture.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(folder / "a.png")
    save_file({"w": np.arange(50.0)}, folder / "model.safetensors")
    (folder / "a.json").write_text(json.dumps({"a": 1, "seconds": 2}))
    (folder / "journal.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (folder / "report.html").write_text("<html></html>\n")
    zarr.open_group(folder / "a.zarr", mode="w").create_array("0", data=np.arange(400).reshape(20, 20))
    return folder


def test_damage_and_differences_are_seen(tmp_path):
    whole, other = fill(tmp_path / "whole"), fill(tmp_path / "other")
    assert broken_files(whole) == {} and unfinished_files(whole) == [] and differing_bytes(whole, other) == {}
    for name in ("a.tif", "a.png", "model.safetensors", "a.json", "report.html"):
        content = (other / name).read_bytes()
        (other / name).write_bytes(content[: len(content) // 2])
    (other / "strange.xyz").write_text("what is this?")
    chunk = max(
        (path for path in (other / "a.zarr").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    chunk.write_bytes(b"\0" * 7)
    (other / ".a.unfinished-12345678.tif").write_bytes(b"half")
    names = ["a.json", "a.png", "a.tif", "a.zarr", "model.safetensors", "report.html", "strange.xyz"]
    assert sorted(broken_files(other)) == names
    assert [path.name for path in unfinished_files(other)] == [".a.unfinished-12345678.tif"]


def test_one_byte_more_is_one_byte_and_times_are_none(tmp_path):
    whole, other = fill(tmp_path / "whole"), fill(tmp_path / "other")
    content = bytearray((other / "a.tif").read_bytes())
    content[-1] ^= 1
    (other / "a.tif").write_bytes(content)
    (other / "a.json").write_text(json.dumps({"a": 1, "seconds": 9}))
    (other / "journal.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')  # the last line was cut short
    assert differing_bytes(whole, other) == {"a.tif": 1}
    (other / "model.safetensors").unlink()
    assert differing_bytes(whole, other)["model.safetensors"] == (whole / "model.safetensors").stat().st_size
