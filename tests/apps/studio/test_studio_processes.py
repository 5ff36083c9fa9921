"""What is said of a run whose process is not there: on its way, or gone."""

import os

from selfseg.apps.studio.runs import PROCESS, STATUS, Runs, Spec
from selfseg.core.files import write_json


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
