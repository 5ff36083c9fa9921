"""Files that are whole or absent, and what killed processes leave of those that they were writing."""

import os
import subprocess
import sys

import pytest

from selfseg.core.files import MARK, clear_unfinished, write_text, writing, writing_folder

WRITER = """
import sys, time
from selfseg.core.files import writing, writing_folder
with writing(sys.argv[1] + "/labels/a.tif") as file, writing_folder(sys.argv[1] + "/labels/a.zarr") as folder:
    file.write_text("half"), (folder / "0").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is writing a file and a folder."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()


def hidden(folder):
    return sorted(path.name.split(MARK)[0] for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_only_what_nobody_writes_any_more_is_cleared(writer, tmp_path):
    clear_unfinished(tmp_path, ("labels",))
    assert hidden(tmp_path / "labels") == [".a", ".a"]
    writer.kill()
    writer.wait()
    clear_unfinished(tmp_path, ("others",))
    assert hidden(tmp_path / "labels") == [".a", ".a"]
    clear_unfinished(tmp_path, ("labels",))
    assert hidden(tmp_path / "labels") == []


def test_other_hidden_files_stay(tmp_path):
    for name in (".a.tif", ".git", "a.unfinished-12345678.tif"):
        (tmp_path / name).write_text("mine")
    clear_unfinished(tmp_path, (".",))
    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_is_left_of_what_fails(tmp_path):
    write_text(tmp_path / "a.txt", "before")
    with pytest.raises(KeyError), writing(tmp_path / "a.txt") as file:
        file.write_text("half")
        raise KeyError
    with pytest.raises(KeyError), writing_folder(tmp_path / "b.zarr") as folder:
        (folder / "0").write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "before"
    with writing_folder(tmp_path / "b.zarr") as folder:
        (folder / "0").write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.zarr"]
