"""What Windows does otherwise, played on this system: no locks, no replacing of open files or folders, turned slashes, short paths."""

import errno
import os
from pathlib import Path, PureWindowsPath

import pytest

from selfseg.core import files
from selfseg.core.errors import InputError, OutputError
from selfseg.learning.hub import is_on_hub

REPLACE = Path.replace


@pytest.fixture
def windows(monkeypatch):
    """No `flock`; folders are not renamed over one another."""

    def replace(self, target):
        if Path(target).is_dir():
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        return REPLACE(self, target)

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    return monkeypatch


def test_a_folder_takes_the_place_of_another(windows, tmp_path):
    for text in ("first", "second"):
        with files.writing_folder(tmp_path / "a.zarr") as folder:
            (folder / "x").write_text(text)
    assert (tmp_path / "a.zarr" / "x").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def held_for(n_times):
    """`Path.replace` that another program stands against for some calls."""
    left = [n_times]

    def replace(self, target):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(target))
        return REPLACE(self, target)

    return replace


def test_a_file_that_another_program_holds_for_a_moment_is_waited_for(windows, tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    windows.setattr(Path, "replace", held_for(3))
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    windows.setattr(Path, "replace", held_for(10**6))
    with pytest.raises(OutputError, match="cannot access the file"):
        files.write_text(tmp_path / "a.txt", "newer")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_elsewhere_nothing_is_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "WINDOWS", False)
    monkeypatch.setattr(Path, "replace", held_for(1))
    with pytest.raises(OutputError):
        files.write_text(tmp_path / "a.txt", "new")


def test_without_locks_only_what_is_old_is_cleared_away(windows, tmp_path):
    young, old, folder = (tmp_path / f".{name}{files.MARK}12345678.tif" for name in ("young", "old", "folder"))
    young.touch()
    old.touch()
    folder.mkdir()
    for path in (old, folder):
        os.utime(path, (0, 0))
    files.clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [young.name]


def test_a_path_that_is_too_long_is_named(windows, tmp_path):
    long = tmp_path / ("a" * 200) / ("b" * 60)

    def refuse(self, *_, **__):
        raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified", str(self))

    windows.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="switch on long paths"):
        files.write_text(long, "x")


def test_the_name_of_a_hub_survives_turned_slashes():
    assert is_on_hub(PureWindowsPath("hf://me/cells")) and is_on_hub("hf://me/cells")
    assert not is_on_hub(PureWindowsPath("C:/models/hf")) and not is_on_hub(PureWindowsPath(r"C:\hf"))
