"""Runs as processes: pause, resume, other options on the way, fork, kill; each against a straight run of the same options."""

import errno
import json
import os
import time
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image as Pillow
from safetensors.numpy import load_file

import selfseg
from selfseg import Segmenter
from selfseg.apps.studio import worker
from selfseg.apps.studio.results import find_result, result_folder, store_results
from selfseg.apps.studio.runs import CHANGE, MODEL, PROCESS, STATUS, Runs, Spec
from selfseg.apps.studio.studio import last_preview
from selfseg.core.errors import OutputError, UsageError
from selfseg.core.files import write_json
from selfseg.core.image import Image

OPTIONS = {"n_features": 16, "n_clusters": 16, "min_classes": 1, "iterations": 120, "prepare": "range"}


@pytest.fixture
def runs(project):
    return Runs(project.folder / "runs")


@pytest.fixture
def spec(photos):
    return Spec("test", "feature_clustering", inputs=(str(photos / "photo0.png"),), options=OPTIONS)


def wait(run, *states, seconds=400):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = run.status()
        if status["state"] in states:
            return status
        time.sleep(0.02)
    raise TimeoutError(f"{run.status()}, not {states}: {(run.folder / 'log.txt').read_text()[-1500:]}")


def wait_for_steps(run, count):
    journal = run.folder / MODEL / "journal.jsonl"
    end = time.monotonic() + 400
    while time.monotonic() < end:
        if journal.exists() and journal.read_text().count("\n") >= count:
            return
        time.sleep(0.005)
    raise TimeoutError(run.status())


def steps(run):
    return [json.loads(line)["step"] for line in (run.folder / MODEL / "journal.jsonl").read_text().splitlines()]


def same_weights(run, folder):
    ours, theirs = load_file(run.folder / MODEL / "model.safetensors"), load_file(folder / "model.safetensors")
    return ours.keys() == theirs.keys() and all((ours[key] == theirs[key]).all() for key in ours)


@pytest.mark.slow
def test_pause_and_resume_end_as_a_straight_run(runs, spec, tmp_path):
    run = runs.create(spec)
    run.start()
    wait_for_steps(run, 5)
    run.order("pause")
    status = wait(run, "paused", "done")
    assert status["state"] == "paused" and len(run.checkpoints) >= 1
    assert steps(run)[-1] < 120
    run.start()
    wait(run, "done")
    assert steps(run) == list(range(1, len(steps(run)) + 1))
    Segmenter(**spec.parameters()).fit(list(spec.inputs), out=tmp_path / "straight")
    assert same_weights(run, tmp_path / "straight")
    assert find_result(run.folder, "photo0", 0).classes.max() >= 1


@pytest.mark.slow
def test_killed_and_resumed_ends_as_a_straight_run(runs, spec, tmp_path):
    run = runs.create(spec)
    run.start()
    wait_for_steps(run, 10)
    run.kill()
    status = wait(run, "crashed", "done")
    assert status["state"] == "crashed"
    run.start()
    wait(run, "done")
    Segmenter(**spec.parameters()).fit(list(spec.inputs), out=tmp_path / "straight")
    assert same_weights(run, tmp_path / "straight")


@pytest.mark.slow
def test_finish_uses_what_was_learned(runs, spec):
    run = runs.create(spec)
    run.start()
    wait_for_steps(run, 5)
    run.order("finish")
    wait(run, "done")
    assert 5 <= len(steps(run)) < 120 and find_result(run.folder, "photo0", 0) is not None


@pytest.mark.slow
def test_a_fork_begins_where_its_parent_was_and_asks_for_other_classes(runs, spec):
    parent = runs.create(spec)
    parent.start()
    wait_for_steps(parent, 5)
    parent.order("pause")
    wait(parent, "paused")
    step = int(parent.checkpoints[-1].stem.partition("-")[2])
    with pytest.raises(UsageError, match="checkpoint"):
        runs.fork(parent, step + 1, spec)
    fork = runs.fork(parent, step, replace(spec, n_classes=2, options={**OPTIONS, "continuity": 1.0}))
    fork.start()
    wait(fork, "done")
    assert fork.id == "002" and Spec.read(fork.folder).origin == {"run": "001", "step": step}
    assert steps(fork)[0] == 1 and steps(fork) == list(
        range(1, steps(fork)[-1] + 1)
    )  # the parent's curve, then its own
    assert len(json.loads((fork.folder / MODEL / "classes.json").read_text())) == 2
    assert parent.status()["state"] == "paused"


@pytest.mark.slow
def test_options_that_change_on_the_way_go_on_from_the_checkpoint(runs, spec):
    run = runs.create(spec)
    run.start()
    wait_for_steps(run, 5)
    run.order("pause")
    wait(run, "paused")
    at = steps(run)[-1]
    changed = replace(
        spec, options={**OPTIONS, "continuity": 0.0, "iterations": at + 5}, begin=str(run.checkpoints[-1])
    )
    changed.save(run.folder)
    run.start()
    wait(run, "done")
    rows = [json.loads(line) for line in (run.folder / MODEL / "journal.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, at + 6))
    assert all(("continuity" in row) == (row["step"] <= at) for row in rows)


@pytest.mark.slow
def test_live_options_change_without_a_restart_and_are_kept(runs, spec, tmp_path):
    run = runs.create(spec)
    process = run.start()
    wait_for_steps(run, 5)
    run.change({"continuity": 0.5})
    run.change({"learning_rate": 0.05, "iterations": 60})
    wait(run, "done")
    assert process.wait(60) == 0  # it was one process all the way
    after = Spec.read(run.folder)
    assert after.options == {**OPTIONS, "continuity": 0.5, "learning_rate": 0.05, "iterations": 60}
    assert steps(run) == list(range(1, 61))
    last = after.changes[-1]["step"]
    assert 5 <= last < 60 and not (run.folder / CHANGE).exists()
    begun = Segmenter(**after.parameters())
    begun.fit(list(spec.inputs), out=tmp_path / "begun", begin=run.checkpoint(last))
    assert same_weights(run, tmp_path / "begun")


@pytest.mark.slow
def test_a_run_killed_after_a_change_is_resumed_with_it(runs, spec):
    run = runs.create(spec)
    run.start()
    wait_for_steps(run, 5)
    run.change({"iterations": 50})
    end = time.monotonic() + 100
    while not Spec.read(run.folder).changes and time.monotonic() < end:
        time.sleep(0.005)
    run.kill()
    at = steps(run)[-1]
    if wait(run, "crashed", "done")["state"] == "crashed":
        run.start()
        wait(run, "done")
        assert steps(run) == list(range(1, 51)) and at < 50
    assert [change["options"] for change in Spec.read(run.folder).changes] == [{"iterations": 50}]


@pytest.mark.slow
def test_what_goes_wrong_is_told(runs, spec, photos):
    for wrong, words in (
        (replace(spec, options={**OPTIONS, "n_features": 0}), "n_features"),
        (replace(spec, inputs=(str(photos / "nothing.png"),)), "no such file"),
    ):
        run = runs.create(wrong)
        run.start()
        assert words in wait(run, "failed")["message"]


def test_a_process_that_is_gone_is_noticed(project, run):
    write_json(run.folder / STATUS, {"state": "learning", "step": 3, "total": 9})
    write_json(run.folder / PROCESS, {"pid": 2**22 + 1, "born": 1.0})
    (run.folder / "log.txt").write_text("some words\nKilled\n")
    status = run.status()
    assert status["state"] == "crashed" and "Killed" in status["message"] and status["step"] == 3


def test_a_run_that_is_about_to_start_is_not_taken_for_a_dead_one(project):
    fresh = Runs(project.folder / "runs").create(Spec("new"))  # its scribbles are being written
    assert fresh.status()["state"] == "starting"
    os.utime(fresh.folder / "spec.json", (1, 1))
    assert fresh.status()["state"] == "crashed"
    write_json(fresh.folder / STATUS, {"state": "starting"})
    assert fresh.status()["state"] == "starting"
    write_json(fresh.folder / PROCESS, {"pid": 2**22 + 1, "born": 1.0})
    assert fresh.status()["state"] == "crashed"


def test_the_first_preview_has_the_labels_and_colours_of_the_result(project, monkeypatch):
    monkeypatch.setattr(worker, "PREVIEW_SIDE", 180)
    tones = np.repeat(np.repeat(np.array([[30, 120], [220, 120]], np.uint8), 140, 0), 180, 1)
    image = Image(np.stack([tones] * 3, -1), "YXC", name="tones")
    model = Segmenter("region_merging", n_classes=3, prepare="size=120,range").fit(image)
    run = Runs(project.folder / "runs").create(Spec("early"))
    worker.write_first_preview(run.folder, model, image, 1)
    shown_first = last_preview(run)
    assert (shown_first.image, shown_first.step, len(shown_first.areas)) == ("tones", 1, 3)
    assert abs(sum(row["share"] for row in shown_first.areas) - 1) < 1e-6
    shown = np.asarray(Pillow.open(run.folder / "previews" / "step-000001.png").convert("RGBA"))
    assert max(shown.shape) <= 180
    result = model.predict(image)
    rgba = {row.id: row.rgba for row in result.table.classes}
    for y in (0.1, 0.4, 0.6, 0.9):
        for x in (0.1, 0.4, 0.6, 0.9):
            label = result.labels[int(y * 280), int(x * 360)]
            assert tuple(shown[int(y * shown.shape[0]), int(x * shown.shape[1])])[:3] == rgba[label][:3], (y, x)
    facts = json.loads((run.folder / "previews" / "step-000001.json").read_text())
    assert {tuple(row["rgba"]) for row in facts["areas"]} == {tuple(colour) for colour in rgba.values()}


def test_the_spec_of_a_project_of_before_is_read_and_written_with_its_keys(tmp_path):
    stored = {
        "name": "a",
        "method": "feature_clustering",
        "preset": "fast",
        "n_classes": 4,
        "seed": 1,
        "prepare": None,
        "refine": None,
        "device": "auto",
        "options": {"continuity": 0.5},
        "inputs": ["photo.png"],
        "axes": None,
        "hints": "runs/001/scribbles",
        "hint_names": {"1": "sky"},
        "begin": None,
        "origin": None,
        "changes": [{"step": 4, "options": {}}],
        "model": None,
        "otherwise": None,
    }
    write_json(tmp_path / "spec.json", stored)
    spec = Spec.read(tmp_path)
    assert (spec.scribbles, spec.scribble_names, spec.inputs) == ("runs/001/scribbles", {"1": "sky"}, ("photo.png",))
    spec.save(tmp_path)
    assert json.loads((tmp_path / "spec.json").read_text()).items() >= stored.items()


def test_a_run_whose_folder_fails_says_so_in_one_line(runs, spec, monkeypatch, capfd):
    run = runs.create(spec)

    def fails(path, value):
        raise OutputError(path, expected="a file that can be written", got="Input/output error", fix="choose another")

    monkeypatch.setattr(worker, "write_json", fails)
    assert worker.main(run.folder) == OutputError.exit_code
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith(str(run.folder / STATUS)) and not any("Traceback" in line for line in said)


def test_half_a_result_is_never_read(project, run, monkeypatch):
    found = result_folder(run.folder, "photo0", 0)
    assert find_result(run.folder, "photo0", 0)
    monkeypatch.setattr(np, "save", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    model, source = selfseg.load(run.model), project.sources()[0]
    with pytest.raises(OutputError, match="No space left"):
        store_results(model, source, None, run.folder)
    assert found.is_dir() and not find_result(run.folder, "photo0", 0)
