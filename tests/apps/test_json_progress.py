"""`--progress json`: every line on standard error is an event, errors and warnings included, and the last one is the exit code."""

import json
import math

import pytest
from PIL import Image as Picture

from conftest import blobs
from selfseg.apps.cli import COMMANDS, main
from selfseg.apps.cli.app import JsonLines, wants_json


@pytest.fixture
def photo(tmp_path):
    Picture.fromarray(blobs(40, 52)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def events(capfd):
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_events_of_a_run(photo, tmp_path, capfd):
    words = ["segment", photo, "-o", tmp_path / "out", "--method", "feature_clustering", "--set", "iterations=5"]
    assert main([*map(str, words), "--progress", "json"]) == 0
    told = events(capfd)
    assert told[-1] == {"event": "end", "exit_code": 0}
    tasks = [event["task"] for event in told if event["event"] == "start"]
    assert tasks == [event["task"] for event in told if event["event"] == "finish"]
    steps = [event for event in told if event["event"] == "progress" and event["task"] == tasks[0]]
    assert steps[-1]["done"] == steps[-1]["total"] == 5
    assert all(isinstance(value, float | int) for value in steps[-1]["values"].values())
    assert any("classes" in event["message"] for event in told if event["event"] == "message")


def test_inputs_that_fail_and_errors_are_events(photo, tmp_path, capfd):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    words = ["segment", photo, tmp_path / "bad.png", "--method", "kmeans", "-q", "-o", tmp_path / "out"]
    assert main([*map(str, words), "--progress=json"]) == 1
    told = events(capfd)
    assert [event["event"] for event in told] == ["failed", "end"]
    assert told[0]["name"] == "bad" and "bad.png" in told[0]["message"] and told[1]["exit_code"] == 1
    assert (
        main(["predict", str(tmp_path / "nowhere"), str(photo), "-o", str(tmp_path / "o"), "--progress", "json"]) == 1
    )
    told = events(capfd)
    assert [event["event"] for event in told] == ["error", "end"] and "nowhere" in told[0]["message"]
    assert main(["segment", str(photo), "--progress", "json"]) == 2
    assert [event["event"] for event in events(capfd)] == ["error", "end"]


def test_an_unknown_way_of_reporting_is_refused(photo, tmp_path, capfd):
    assert main(["segment", str(photo), "-o", str(tmp_path / "out"), "--progress", "yaml"]) == 2
    assert "--progress" in capfd.readouterr().err


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"studio", "methods", "doctor", "demo"}))
def test_every_command_that_works_long_has_it(command, capsys):
    main([command, "--help"])
    assert "--progress" in capsys.readouterr().out


def test_the_first_and_last_step_are_told_and_figures_are_numbers_or_null(capfd):
    lines = JsonLines()
    lines.start("learning", 1000)
    for step in range(1, 1001):
        lines.update(step, {"loss": math.nan, "classes": 3})
    lines.finish()
    told = events(capfd)
    assert [event["event"] for event in (told[0], told[-1])] == ["start", "finish"]
    assert [told[1]["done"], told[-2]["done"]] == [1, 1000] and len(told) < 500
    assert told[-2]["values"] == {"loss": None, "classes": 3}


def test_what_asks_for_json():
    assert wants_json(["fit", "--progress", "json"]) and wants_json(["fit", "--progress=json", "x"])
    assert not wants_json(["fit", "json", "--progress"]) and not wants_json(["evaluate", "--json"])
