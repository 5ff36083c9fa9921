"""The manifest: what a run wrote is listed, what an earlier one left is removed, and what a person put there stays."""

import json
import os

import pytest

from selfseg.core.errors import InputError
from selfseg.core.files import NOTES, Manifest, keep_file, write_json, write_text, writing, writing_folder, written_into


def run(folder, *names, text="ours", kill=False):
    """Write files as a run does; return what stays although an earlier run wrote it."""
    manifest = Manifest(folder)
    manifest.begin()
    with manifest:
        for name in names:
            write_text(folder / name, text)
    return None if kill else manifest.settle({"selfseg": "1"})


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_second_run_removes_what_the_first_wrote_and_nothing_else(tmp_path):
    run(tmp_path, "labels/a.tif", "labels/deep/b.tif", "report.html")
    (tmp_path / "labels" / "mine.tif").write_text("a person's")
    assert run(tmp_path, "labels/c.tif", "report.html") == []
    assert files(tmp_path) == ["labels/c.tif", "labels/mine.tif", "report.html", "run.json"]
    listed = json.loads((tmp_path / "run.json").read_text())["files"]
    assert list(listed) == ["labels/c.tif", "report.html"]


def test_what_a_person_changed_stays_and_is_named_and_never_counts(tmp_path):
    run(tmp_path, "labels/a.tif", "labels/b.tif")
    (tmp_path / "labels" / "a.tif").write_text("corrected by hand")
    for _ in range(2):  # the second run after it still knows
        assert run(tmp_path, "labels/c.tif") == ["labels/a.tif"]
        assert files(tmp_path) == ["labels/a.tif", "labels/c.tif", "run.json"]
        assert "labels/a.tif" in Manifest(tmp_path).stale


def test_a_file_in_the_way_is_refused_and_stays(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.tif").write_text("a person's")
    with Manifest(tmp_path), pytest.raises(InputError, match=r"a\.tif: expected no file of yours.*did not write"):
        write_text(tmp_path / "labels" / "a.tif", "ours")
    assert (tmp_path / "labels" / "a.tif").read_text() == "a person's"
    write_text(tmp_path / "run.json", '{"of": "another program"}')
    with pytest.raises(InputError, match=r"run\.json: .*did not write"), Manifest(tmp_path):
        pass


def test_a_file_that_was_changed_is_not_overwritten(tmp_path):
    run(tmp_path, "labels/a.tif")
    (tmp_path / "labels" / "a.tif").write_text("corrected by hand")
    manifest = Manifest(tmp_path)
    manifest.begin()
    with manifest, pytest.raises(InputError, match="changed since selfseg wrote it"):
        write_text(tmp_path / "labels" / "a.tif", "ours again")
    assert (tmp_path / "labels" / "a.tif").read_text() == "corrected by hand"


def test_a_run_that_is_killed_is_known_by_its_notes(tmp_path):
    run(tmp_path, "labels/a.tif", "labels/b.tif")
    run(tmp_path, "labels/b.tif", text="anew", kill=True)
    killed = Manifest(tmp_path)
    assert killed.stale == {"labels/a.tif"} and list(killed.files) == ["labels/b.tif"]
    with (tmp_path / NOTES).open("ab") as notes:
        notes.write(b'{"file": "labels/c.t')  # a line cut short, behind which the next one is whole
    with Manifest(tmp_path):
        write_text(tmp_path / "labels" / "d.tif", "anew")
    assert list(Manifest(tmp_path).files) == ["labels/b.tif", "labels/d.tif"]
    assert run(tmp_path, "labels/b.tif", text="anew") == []
    assert files(tmp_path) == ["labels/b.tif", "run.json"]


def test_later_commands_add_and_replace_their_own(tmp_path):
    run(tmp_path, "labels/a.tif")
    for names in (("cut/a.tif", "cut/old.tif"), ("cut/a.tif",)):
        with Manifest(tmp_path) as manifest:
            for name in names:
                write_text(tmp_path / name, "cut")
            manifest.settle(within=["cut"])
    assert files(tmp_path) == ["cut/a.tif", "labels/a.tif", "run.json"]
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["selfseg"] == "1" and list(facts["files"]) == ["cut/a.tif", "labels/a.tif"]


def test_folders_and_growing_files(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.begin()
    with manifest:
        with writing_folder(tmp_path / "a.zarr") as temporary:
            (temporary / "0").write_text("chunk")
        (tmp_path / "a.zarr" / "1").write_text("a chunk that came later")
        write_text(tmp_path / "journal.jsonl", "")
        with (tmp_path / "journal.jsonl").open("a") as journal:
            journal.write("grown\n")
        keep_file(tmp_path / "journal.jsonl", tmp_path / "kept" / "one")
    manifest.settle({"selfseg": "1"})
    assert written_into(tmp_path / "a.zarr" / "1") == tmp_path
    assert run(tmp_path, "labels/b.tif") == []
    assert files(tmp_path) == ["labels/b.tif", "run.json"]


def test_a_folder_of_a_version_without_lists_is_left_alone(tmp_path):
    write_json(tmp_path / "run.json", {"selfseg": "0", "images": []})
    write_text(tmp_path / "labels" / "a.tif", "of before")
    assert Manifest(tmp_path).unknown
    run(tmp_path, "labels/a.tif")
    assert files(tmp_path) == ["labels/a.tif", "run.json"] and not Manifest(tmp_path).unknown


def test_names_are_bytes(tmp_path):
    for stem in ("m" * 251, "é" * 125, os.fsdecode(b"caf\xe9")):
        write_text(tmp_path / f"{stem}.tif", "whole")
        assert (tmp_path / f"{stem}.tif").read_text() == "whole"
    with pytest.raises(InputError, match=r"256 bytes.*rename the input"), writing(tmp_path / f"{'m' * 252}.tif"):
        pass
    write_json(tmp_path / "a.json", {"name": os.fsdecode(b"caf\xe9")})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": os.fsdecode(b"caf\xe9")}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_part_of_a_run_notes_in_the_record_of_the_run(tmp_path):
    with writing_folder(tmp_path / "a.zarr") as temporary:
        (temporary / "0").write_text("begun by a run that was killed")
    run(tmp_path, kill=True)
    with Manifest(tmp_path) as first:
        first.note(tmp_path / "a.zarr")
    again = Manifest(tmp_path)
    again.begin()
    with again:
        with Manifest(tmp_path) as part:
            part.note(tmp_path / "a.zarr")  # which goes on with it
        assert again.settle({"selfseg": "1"}) == []
    assert files(tmp_path) == ["a.zarr/0", "run.json"]
