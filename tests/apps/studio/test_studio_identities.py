"""Classes that outlive a run: their ids, names and colours through strokes, merges, overlap and new runs."""

import numpy as np
import pytest

import selfseg
from conftest import blobs
from selfseg.apps.studio.editing import class_rows
from selfseg.apps.studio.identities import arranged, begun_with, identity_of, known_identities, links, new_identity
from selfseg.apps.studio.project import SCRIBBLES, open_project
from selfseg.apps.studio.results import store_results
from selfseg.apps.studio.runs import Runs, Spec
from selfseg.core.classes import keep_ids
from selfseg.read import find_inputs

TONES = {"ground": 40, "half": 120, "disc": 220}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from PIL import Image as Picture

    folder = tmp_path_factory.mktemp("photos")
    Picture.fromarray(blobs(40, 52)).save(folder / "photo.png")
    fitted = selfseg.Segmenter("kmeans", n_classes=3).fit(str(folder / "photo.png"), out=folder / "model")
    fitted.save(folder / "model")
    return folder, fitted


@pytest.fixture
def begun(model, tmp_path):
    """A project with one finished run, whose three classes are ordered dark to bright."""
    folder, fitted = model
    project = open_project([str(folder / "photo.png")], tmp_path / "p.studio")
    runs = Runs(project.folder / "runs")
    run = runs.create(Spec("first", "kmeans", model=str(folder / "model"), inputs=(str(folder / "photo.png"),)))
    store_results(fitted, project.sources()[0], None, run.folder)
    yield project, runs, run, fitted
    project.log.close()


def stroke(project, value, points):
    row = {"op": "stroke", "image": "photo", "frame": 0, "plane": 0, "value": value, "radius": 2.0, "points": points}
    project.log.do(SCRIBBLES, row)


def test_ids_are_kept_and_the_others_fill_the_gaps():
    assert keep_ids([2, 0, 1], {}) == [2, 0, 1]
    assert keep_ids([2, 0, 1], {0: 2}) == [2, 0, 1]
    assert keep_ids([0, 1], {1: 4}) == [0, None, None, 1]
    assert keep_ids([0, 1, 2], {2: 1}, reserved=[2]) == [2, None, 0, 1]
    assert keep_ids([0], {5: 1}) == [0]  # a cluster that died has no id


def test_a_class_gets_an_identity_by_its_first_stroke_and_keeps_its_name(begun):
    project, runs, run, _ = begun
    assert known_identities(project, runs) == {}
    bear = identity_of(project, runs, run, 3)
    assert bear == 3 == identity_of(project, runs, run, 3)
    project.log.do(run.id, {"op": "rename", "id": 3, "name": "bear"})
    assert known_identities(project, runs)[3].name == "bear"
    moss = new_identity(project, runs, "moss")
    assert moss == 4 and links(project, run, known_identities(project, runs)) == {3: 3}
    project.log.do(run.id, {"op": "merge", "source": 3, "target": 1})
    kept, classes, joined = begun_with(project, runs, run)
    assert (set(kept), classes, joined) == (
        {"1", "4"},
        {"1": 1},
        {3: 1},
    )  # strokes of bear are now strokes of what it joined


def test_the_same_number_in_an_unrelated_run_is_another_class(begun):
    project, runs, run, _ = begun
    identity_of(project, runs, run, 1)
    other = runs.create(Spec.read(run.folder))
    assert links(project, other, known_identities(project, runs)) == {}
    assert identity_of(project, runs, other, 1) == 2 and identity_of(project, runs, run, 2) == 3


@pytest.mark.parametrize("by", ["strokes", "overlap"])
def test_a_new_model_takes_the_ids_of_the_project(begun, by):
    """The bright disc is the project's class 1: in a model that would call it 3, and in its labels, it is 1."""
    project, runs, run, fitted = begun
    project.log.do(run.id, {"op": "rename", "id": 3, "name": "bear"})
    project.log.do(run.id, {"op": "recolour", "id": 3, "rgba": [9, 8, 7, 255]})
    if by == "strokes":
        identity_of(project, runs, run, 3)
        stroke(project, 3, [[20.0, 26.0], [22.0, 30.0]])
    kept, classes, _ = begun_with(project, runs, run)
    assert classes == {"3": 3}
    kept = {"1": kept["3"]}
    strokes = ({"image": "photo", "frame": 0, "plane": 0, "value": 1, "radius": 2.0, "points": [[20.0, 26.0]]},)
    spec = Spec("new", "kmeans", classes=kept, like={"run": run.id, "classes": {"1": 3}})
    spec = Spec(**{**vars(spec), "strokes": strokes if by == "strokes" else ()})
    before = fitted.predict_image(project.sources()[0].read())
    table, lost = arranged(fitted, spec, runs.folder, project.sources())
    assert lost == [] and [row.sources for row in table.classes] == [(2,), (0,), (1,)]
    assert [row.id for row in table.classes] == [1, 2, 3]
    after = selfseg.Segmenter("kmeans", n_classes=3).fit(str(project.sources()[0].path))
    after.model_ = after.model_.__class__(**{**vars(after.model_), "table": table})
    labels = after.predict_image(project.sources()[0].read()).labels
    assert np.array_equal(labels == 1, before.labels == 3)


def test_a_class_that_a_run_has_not_is_told(begun):
    project, runs, _, fitted = begun
    spec = Spec("new", "kmeans", classes={"2": {"name": "bear", "rgba": [9, 8, 7, 255]}})
    table, lost = arranged(fitted, spec, runs.folder, find_inputs(str(project.sources()[0].path)))
    assert lost == ["no class of this run is “bear”"]
    assert [(row.id, row.sources) for row in table.classes] == [(1, (0,)), (2, ()), (3, (1,)), (4, (2,))]
    run = runs.create(Spec("new", "kmeans"))
    (run.folder / "model").mkdir()
    (run.folder / "model" / "classes.json").write_text(__import__("json").dumps(table.to_json()))
    assert [row.id for row in class_rows(project, run)] == [1, 3, 4]  # what cannot occur is not shown


def test_a_u_net_is_taught_by_the_labels_as_corrected(begun):
    import tifffile

    from selfseg.apps.studio.objects import write_teacher
    from selfseg.apps.studio.worker import main
    from selfseg.refine.edits import runs_of

    project, runs, run, _ = begun
    mask = np.zeros((40, 52), bool)
    mask[2:8, 3:11] = True
    given = {"kind": "given", "value": 3, "runs": list(runs_of(mask)), "frame": 0}
    project.log.do(run.id, {"op": "rename", "id": 3, "name": "bear"})
    project.log.do(run.id, {"op": "correct", "image": "photo", "correction": given})
    kept, classes, _ = begun_with(project, runs, run)
    inputs = (str(project.sources()[0].path),)
    options = {"iterations": 3, "width": 4, "depth": 2, "patch": None}
    like = {"run": run.id, "classes": classes}
    pupil = runs.create(Spec("pupil", "unet", options=options, inputs=inputs, classes=kept, like=like))
    folder = write_teacher(project, run, pupil.folder / "labels", ["photo"])
    assert (tifffile.imread(folder / "photo.tif")[mask] == 3).all()
    Spec(**{**vars(Spec.read(pupil.folder)), "labels": str(folder)}).save(pupil.folder)
    assert main(pupil.folder) == 0, pupil.status()
    assert [(row.id, row.name) for row in class_rows(project, pupil)][2] == (3, "bear")
