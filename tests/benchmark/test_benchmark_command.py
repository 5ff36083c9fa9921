import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from PIL import Image as Picture

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.methods.unet import UNetMethod


def command(data, out, *more, methods="region_merging", baselines="one_region,grid", workers=1):
    words = ["benchmark", "bsds500", "--split", "val", "--data", str(data), "-o", str(out), "--methods", methods]
    return [*words, "--baselines", baselines, "--workers", str(workers), *more]


def results(out):
    return json.loads((out / "results.json").read_text())


def test_a_benchmark_leaves_tables_plots_sheets_and_a_report(small_bsds, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(small_bsds, out, "--seeds", "0,1", "--limit", "2")) == 0
    shown = capsys.readouterr().out
    assert "region_merging" in shown and "one_region" in shown and "covering" in shown
    value = results(out)
    assert value["images"] == ["100", "102"] and not value["failures"]
    found = {one["contender"]: one for one in value["standings"]}
    assert set(found) == {"region_merging", "one_region", "grid"}
    # One region covers each truth region with its share of the area: both are known.
    expected = covered = 0.0
    for name in value["images"]:
        for truth in np.load(small_bsds / "bsds500" / "groundTruth" / "val" / f"{name}.npz")["segmentations"]:
            areas = np.bincount(truth.ravel())
            covered += float((areas * areas / areas.sum()).sum())
            expected += float(areas.sum())
    assert found["one_region"]["values"]["one.covering"] == pytest.approx(covered / expected)
    assert found["one_region"]["spread"]["one.covering"] == 0
    assert found["region_merging"]["values"]["ods.covering"] >= found["one_region"]["values"]["one.covering"]
    for name in ("table.md", "table.csv", "images.csv", "report.html", "sheets/region_merging.png"):
        assert (out / name).stat().st_size > 100, name
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 2 and page.count("<img") == 3 and "http" not in page.replace("http-equiv", "")
    assert len((out / "images.csv").read_text().splitlines()) == 1 + 3 * 2 * 2


def test_rows_that_are_there_are_kept(small_bsds, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(small_bsds, out, "--limit", "3", workers=2)) == 0
    rows = sorted((out / "rows").rglob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in rows}
    rows[0].unlink()
    rows[1].write_text("{")
    capsys.readouterr()
    assert main(command(small_bsds, out, "--limit", "3")) == 0
    assert f"{len(rows) - 2} of {len(rows)} rows are there already" in capsys.readouterr().err
    changed = [path for path in rows if path.stat().st_mtime_ns != before[path]]
    assert changed == rows[:2]
    assert main(command(small_bsds, out, "--limit", "3", "--classes", "3")) == 0
    assert all(path.stat().st_mtime_ns != before[path] for path in rows)  # another question: nothing is taken over


def test_a_bad_truth_is_named_and_the_rest_is_scored(small_bsds, tmp_path, capsys):
    truth = small_bsds / "bsds500" / "groundTruth" / "val"
    np.savez(truth / "101.npz", segmentations=np.zeros((2, 5, 6), np.uint16))
    (truth / "102.npz").write_bytes(b"no more")
    out = tmp_path / "out"
    assert main(command(small_bsds, out, methods="", baselines="grid")) == 1
    errors = capsys.readouterr().err
    assert "101" in errors and "102" in errors
    value = results(out)
    assert len(value["failures"]) == 2 and value["standings"][0]["images"] == 2
    assert "2 of 4 images" in (out / "table.md").read_text()


def test_models_learned_on_a_split_are_applied_to_another(small_bsds, tmp_path):
    for kind in ("images", "groundTruth"):
        folder = small_bsds / "bsds500" / kind
        (folder / "train").mkdir()
        for path in (folder / "val").iterdir():
            (folder / "train" / f"9{path.name}").write_bytes(path.read_bytes())
    out = tmp_path / "out"
    assert main(command(small_bsds, out, "--train", "train:2", "--limit", "2", baselines="none")) == 0
    folder = out / "models" / "region_merging" / "train-2-seed-0"
    training = json.loads((folder / "training.json").read_text())
    assert sorted(training["inputs"]) == ["9100", "9102"] and training["finished"]
    assert results(out)["standings"][0]["images"] == 2


def test_a_supervised_method_learns_the_truth_of_the_training_split(tmp_path, monkeypatch):
    monkeypatch.setitem(UNetMethod.presets, "tiny", {"width": 4, "depth": 1, "iterations": 30, "learning_rate": 0.01})
    folder = tmp_path / "data" / "dsb2018"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    names = ("00071198d059", "0280fa8f60f6", "10328b822b83", "new1", "new2")  # three of train, two of val
    for seed, name in enumerate(names):
        picture = blobs(40, 52, seed=seed)
        Picture.fromarray(picture).save(folder / "images" / f"{name}.png")
        Picture.fromarray((picture.mean(-1) > 170).astype(np.uint16)).save(folder / "labels" / f"{name}.png")
    words = [
        "benchmark",
        "dsb2018",
        "--data",
        str(tmp_path / "data"),
        "--methods",
        "unet:tiny",
        "--baselines",
        "none",
        "-q",
    ]
    out = tmp_path / "out"
    assert main([*words, "--workers", "1", "-o", str(out), "--train", "train"]) == 0
    assert results(out)["standings"][0]["values"]["one.mean_dice"] > 0.8
    training = json.loads((out / "models" / "unet-tiny" / "train-seed-0" / "training.json").read_text())
    assert training["n_images"] + len(training["held_out"]) == 3 and training["hint_values"] == [0, 1]


def test_a_supervised_method_never_learns_what_it_is_scored_on(small_bsds, tmp_path, capsys):
    assert main(command(small_bsds, tmp_path / "out", methods="unet")) == 2
    assert "--train" in capsys.readouterr().err
    assert main([*command(small_bsds, tmp_path / "out", methods="unet"), "--train", "train"]) == 2
    assert "classes or objects" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--methods", "magic"], "expected contours, deep_kmeans"),
        (["--baselines", "magic"], "felzenszwalb"),
        (["--seeds", "a"], "--seeds"),
        (["--split", "moon"], "moon"),
        (["--limit", "0"], "--limit"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_bad_usage_is_one_line(small_bsds, tmp_path, capsys, change, words):
    base = [word for word in command(small_bsds, tmp_path / "out")]
    if change[0] in base:
        base[base.index(change[0]) + 1] = change[1]
    else:
        base += change
    assert main(base) == 2
    errors = capsys.readouterr().err
    assert words in errors and errors.count("\n") == 1


def test_data_that_are_not_there_are_told(tmp_path, capsys):
    assert main(command(tmp_path, tmp_path / "out")) == 1
    assert "bsds500" in capsys.readouterr().err


def test_workers_end_with_the_process_that_handed_out_the_jobs(small_bsds, tmp_path):
    words = [sys.executable, "-m", "selfseg", *command(small_bsds, tmp_path / "out", workers=2)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    parent, workers, deadline = psutil.Process(process.pid), [], time.monotonic() + 120
    while not workers and time.monotonic() < deadline:
        time.sleep(0.1)
        workers = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
    process.kill()
    process.wait()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert not alive


@pytest.mark.slow
def test_a_killed_benchmark_goes_on(small_bsds, tmp_path):
    """Kill the whole group at several moments; afterwards every row is whole or absent, and the end is the same."""
    for seed in range(4, 12):  # more pictures, so that there is something to kill
        for kind, ending in (("images", ".jpg"), ("groundTruth", ".npz")):
            folder = small_bsds / "bsds500" / kind / "val"
            (folder / f"{100 + seed}{ending}").write_bytes((folder / f"{100 + seed % 4}{ending}").read_bytes())
    words = [sys.executable, "-m", "selfseg", *command(small_bsds, tmp_path / "killed", workers=2)]
    for seconds in (6.0, 8.0, 10.0):
        process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in (tmp_path / "killed").rglob("*.json"):
            if not path.name.startswith("."):
                json.loads(path.read_text())
    assert subprocess.run(words, check=False).returncode == 0
    assert main(command(small_bsds, tmp_path / "straight")) == 0
    first, second = results(tmp_path / "killed"), results(tmp_path / "straight")
    for one, other in zip(first["standings"], second["standings"], strict=True):
        for key, value in one["values"].items():
            if key not in ("seconds", "peak_memory"):
                assert value == other["values"][key], key


def test_pictures_without_truth_are_compared_by_what_can_be_said(tmp_path):
    out = tmp_path / "out"
    words = ["benchmark", "skimage_photos", "-o", str(out), "--methods", "region_merging", "--baselines", "grid"]
    assert main([*words, "--limit", "1", "--workers", "1", "-q"]) == 0
    (merging, grid) = results(out)["standings"]
    assert merging["values"]["one.boundary_edge_agreement"] > grid["values"]["one.boundary_edge_agreement"]
    assert Picture.open(out / "sheets" / "region_merging.png").size[0] > 100
