"""`selfseg datasets`: lists, shows, verifies; each fault is named."""

import shutil
from dataclasses import replace

import pytest

from selfseg.apps.cli import main
from selfseg.read.datasets import dataset_names, find_dataset


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


def run(*words):
    return main(["datasets", *map(str, words)])


def test_the_list_names_task_images_licence_and_whether_it_is_here(capsys):
    assert run() == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert list(rows) == ["dataset", *dataset_names()]
    assert all(word in rows["bsds500"] for word in ("partition", "train 200, val 100", "none stated"))
    assert rows["bsds500"].split()[-1] == "no" and rows["skimage_photos"].split()[-1] == "yes"


@pytest.mark.parametrize("name", dataset_names())
def test_one_dataset_shows_everything(name, capsys):
    assert run(name) == 0
    out, dataset = capsys.readouterr().out, find_dataset(name)
    for text in (dataset.licence, dataset.citation, dataset.layout, dataset.split_rule, dataset.homepage):
        assert text in out
    assert all(split in out for split in dataset.splits)


def test_bad_usage_is_one_line(capfd):
    for words, told in ((["nonsense"], "bsds500"), (["--download"], "--download"), (["--verify"], "--verify")):
        assert run(*words) == 2
        err = capfd.readouterr().err
        assert told in err and err.count("\n") == 1


def test_each_file_that_is_missing_or_differs_is_named(tmp_path, capfd):
    (tmp_path / "flair").mkdir()
    (tmp_path / "flair" / "ms26_mask.nii.gz").write_bytes(b"something else")
    assert run("ms_flair", "--data", tmp_path) == 0
    assert "1 of 2 files" in capfd.readouterr().out
    assert run("ms_flair", "--data", tmp_path, "--verify", "-q") == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines == [f"missing: {tmp_path}/flair/ms26_flair.nii.gz", f"differs: {tmp_path}/flair/ms26_mask.nii.gz"]
    assert run("skimage_photos", "--verify", "--download") == 0
    assert "all 7 files are whole" in capfd.readouterr().err


def test_a_download_that_fails_is_one_line_and_exit_code_1(tmp_path, capfd, monkeypatch):
    from selfseg.read.datasets import ms_flair

    nowhere = tuple(replace(file, url="http://127.0.0.1:9/a.nii.gz") for file in ms_flair.DATASET.files)
    monkeypatch.setattr(ms_flair, "DATASET", replace(ms_flair.DATASET, files=nowhere))
    assert run("ms_flair", "--download", "-q", "-o", tmp_path / "out") == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "no connection" in err and "--data" in err
    assert not [path for path in (tmp_path / "out").rglob("*")]


@pytest.mark.data
def test_the_real_folder_is_whole_and_a_copy_without_a_file_is_not(data_dir, tmp_path, capfd):
    assert run("isbi2012", "--data", data_dir, "--verify") == 0
    (tmp_path / "isbi2012").mkdir()
    shutil.copy(data_dir / "isbi2012" / "train-volume_00-19.tif", tmp_path / "isbi2012")
    assert run("isbi2012", "--data", tmp_path, "--verify") == 1
    assert "train-labels_00-19.tif" in capfd.readouterr().out
