"""What the page says, what the server answers: edits, undo, splits, scribbles, exports, recipes, runs."""

import asyncio
import contextlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from starlette.testclient import TestClient

from selfseg import load
from selfseg.apps.studio.engine_process import answer
from selfseg.apps.studio.exports import further_formats
from selfseg.apps.studio.messages import REQUESTS, schema
from selfseg.apps.studio.runs import MODEL, Runs, Spec
from selfseg.apps.studio.security import Access
from selfseg.apps.studio.server import make_app
from selfseg.apps.studio.studio import Engine, Studio
from selfseg.core.errors import InputError
from selfseg.refine.edits import read_edits
from selfseg.segmenting.images import edited

HOME = "http://127.0.0.1:8123"


class Page:
    """A page that is open: says things, and hears what the server tells."""

    def __init__(self, client, socket):
        self.client, self.socket, self.run = client, socket, None

    def say(self, **request):
        self.socket.send_text(json.dumps(request))

    def hear(self, kind, changed=False, **fields):
        """The next message of this kind whose fields are these; of a run, if asked, the next that says something else."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            news = self.socket.receive_json()
            if news["type"] == "run":
                said = [news[key] for key in ("classes", "level", "can_undo", "can_redo")]
                before, self.run = self.run, said
                if changed and said == before:
                    continue  # said again, because a file of the run was written
            if news["type"] == kind and all(news[key] == value for key, value in fields.items()):
                return news
        raise TimeoutError(f"no {kind} with {fields}")

    def edit(self, **operation):
        self.say(type="edit", run="001", operation=operation)
        return self.hear("run", changed=True)

    def get(self, path, **fields):
        answer = self.client.get(path, params=fields)
        assert answer.status_code == 200, answer.text
        return answer


@contextlib.contextmanager
def opened(project, engine=None):
    """The page of a project; nothing of it needs torch, so the engine is never asked for the methods."""
    studio = Studio(project)
    studio.describe_methods = lambda: _nothing()
    if engine is not None:
        studio.engine = engine
    studio.formats |= further_formats()
    client = TestClient(make_app(studio, Access(8123, token="t")), base_url=HOME, headers={"Authorization": "Bearer t"})
    with client, client.websocket_connect("ws://127.0.0.1:8123/ws") as socket:
        yield Page(client, socket)


async def _nothing() -> None:
    return None


class EngineHere(Engine):
    """The engine without its process (`test_studio_engine` has it): the same lines of JSON, answered in this one."""

    async def ask(self, task, **fields):
        reply = json.loads(json.dumps(await asyncio.to_thread(answer, json.dumps({"task": task, **fields}))))
        if "error" in reply:
            raise InputError(reply["error"])
        return reply["ok"]


@pytest.fixture
def page(project, run):
    with opened(project, EngineHere(project.folder / "engine.txt")) as found:
        found.hear("run", id="001")
        yield found


def labels_of(page):
    """The label image that the page shows, from the same bytes: classes of leaves, looked up by the tile."""
    classes = np.frombuffer(page.get("/api/classes", run="001", name="photo0").content, "<u2")
    place = {"axis": "z", "frame": 0, "index": 0, "level": 0, "x": 0, "y": 0}
    tile = np.frombuffer(page.get("/tiles/leaves", run="001", name="photo0", **place).content, "<u4").reshape(42, 54)
    return np.append(0, classes)[tile[1:-1, 1:-1]]


def figures_heard(project, written):
    """Rows of the figures as a page has them that opens at each moment; `written` is called between the looks."""

    class Heard:
        def __init__(self):
            self.rows = []

        async def send_text(self, text):
            news = json.loads(text)
            if news["type"] == "figures":
                self.rows = news["rows"] if news["whole"] else self.rows + news["rows"]

    async def play():
        studio, pages = Studio(project), []
        for rows in written:
            path = project.folder / "runs" / "001" / "model" / "journal.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps({"step": step, "time": 0.0}) + "\n" for step in rows))
            pages.append(Heard())
            await studio.greet(pages[-1])  # between the writing of a row and the next look at the journal
            await studio._send_figures(studio.runs.get("001"))
        return [[row["step"] for row in page.rows] for page in pages]

    return asyncio.run(play())


def test_a_page_that_opens_while_a_run_learns_has_every_row_once(project, run):
    assert figures_heard(project, [range(1, 4), range(1, 5), range(1, 9)]) == [list(range(1, 9))] * 3
    begun_again = figures_heard(project, [range(1, 9), range(1, 4), range(1, 6)])
    assert begun_again == [list(range(1, 6))] * 3


def test_a_long_journal_is_thinned_for_a_server_that_restarts(project, run):
    (rows,) = figures_heard(project, [range(1, 5001)])
    assert 1000 < len(rows) <= 1500 and rows[-1] == 5000 and len(set(rows)) == len(rows)


def test_a_page_that_opens_hears_everything(project, run):
    with opened(project) as page:
        state = page.hear("project")
        assert state["images"] == ["photo0", "photo1"] and dict(state["formats"])["labels"].startswith("Label TIFF")
        told = page.hear("run")
        assert (told["id"], told["state"], told["results"]) == ("001", "done", ["photo0", "photo1"])
        assert [row["id"] for row in told["classes"]] == [1, 2, 3] and told["level"] == -1
        assert page.hear("figures", whole=True)["run"] == "001"


def test_what_is_shown_as_learned_is_what_predict_writes(page, run, photos):
    model = load(run.folder / MODEL)
    assert np.array_equal(labels_of(page), model.predict(photos / "photo0.png").labels)


def test_edits_undo_and_redo(page, project):
    assert page.edit(op="rename", id=2, name="sea")["classes"][1]["name"] == "sea"
    merged = page.edit(op="merge", source=3, target=1)
    assert [row["id"] for row in merged["classes"]] == [1, 2] and merged["revision"] != 0
    assert merged["classes"][0]["channels"] == [0, 2]
    assert not (labels_of(page) == 3).any()
    page.say(type="undo", scope="001")
    back = page.hear("run", changed=True)
    assert [row["id"] for row in back["classes"]] == [1, 2, 3] and back["can_redo"] and back["revision"] == 0
    page.say(type="undo", scope="001")
    assert page.hear("run", changed=True)["classes"][1]["name"] == "class 2"
    page.say(type="undo", scope="001")
    assert page.hear("run")["can_undo"] is False
    page.say(type="redo", scope="001")
    page.say(type="redo", scope="001")
    page.hear("run", changed=True)
    again = page.hear("run", changed=True)
    assert [row["id"] for row in again["classes"]] == [1, 2] and again["classes"][1]["name"] == "sea"
    assert page.edit(op="ignore", id=2, on=True)["classes"][1]["ignored"]
    assert page.edit(op="recolour", id=1, rgba=[9, 8, 7, 255])["classes"][0]["rgba"] == [9, 8, 7, 255]


def test_a_split_is_the_same_for_all_pictures_and_can_be_undone(page):
    before = labels_of(page)
    page.say(type="split", run="001", id=2, parts=2)
    told = page.hear("run", changed=True)
    assert [row["id"] for row in told["classes"]] == [1, 2, 3, 4]
    after = labels_of(page)
    assert set(np.unique(after[before == 2])) == {2, 4} and np.array_equal(after[before != 2], before[before != 2])
    page.say(type="undo", scope="001")
    page.hear("run", changed=True)
    assert np.array_equal(labels_of(page), before)


@pytest.mark.parametrize(
    "request_",
    [
        {"type": "edit", "run": "001", "operation": {"op": "merge", "source": 1, "target": 77}},
        {"type": "edit", "run": "001", "operation": {"op": "merge", "source": 1, "target": 1}},
        {"type": "edit", "run": "../001", "operation": {"op": "ignore", "id": 1, "on": True}},
        {"type": "edit", "run": "001", "operation": {"op": "level", "level": "NaN"}},
        {"type": "edit", "run": "001", "operation": {"op": "format the disk"}},
        {"type": "scribble", "operation": {"op": "stroke", "image": "no", "value": 1, "radius": 2, "points": [[1, 1]]}},
        {"type": "apply", "run": "001", "folder": "/etc", "formats": ["labels"]},
        {"type": "apply", "run": "001", "folder": "../../..", "formats": ["labels"]},
        {"type": "split", "run": "001", "id": 9},
        {"type": "fork", "run": "001", "step": 999},
        {"type": "change", "run": "001", "options": {}, "surprise": 1},
        {"type": "unknown"},
        {},
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(page, project, request_):
    page.say(**request_)
    told = page.hear("notice")
    assert told["kind"] == "error" and told["text"] and "\n" not in told["text"]
    assert project.log.history("001").done == []


def test_messages_that_are_no_json_or_too_long_do_not_end_the_link(page):
    page.socket.send_text("{")
    page.hear("notice")
    page.socket.send_text("x" * (2**21 + 1))
    page.hear("notice")
    assert page.edit(op="rename", id=1, name="still here")["classes"][0]["name"] == "still here"


def test_the_level_counts_for_every_picture_and_the_export_is_what_is_shown(page, project, run):
    raw = page.get("/api/tree", run="001", name="photo0").content
    n_nodes = len(raw) // 20
    altitudes, parents = np.frombuffer(raw, "<f8", n_nodes), np.frombuffer(raw, "<i4", offset=16 * n_nodes)
    sizes = np.frombuffer(raw, "<f8", n_nodes, offset=8 * n_nodes)
    n_leaves = (n_nodes + 1) // 2
    level = float(altitudes[n_leaves + (n_leaves * 2) // 3])
    page.edit(op="merge", source=2, target=3)
    page.edit(op="level", level=level)
    page.say(type="export", run="001", formats=["labels", "overlay", "colours"])
    job = page.hear("job", state="done")
    assert job["failures"] == [] and "labels/photo0.tif" in job["files"] and "colours/photo1.png" in job["files"]
    # The page's own way, as loops: climb to the region, count pixels of classes, take the most.
    classes = np.frombuffer(page.get("/api/classes", run="001", name="photo0").content, "<u2")
    tops = []
    for leaf in range(n_leaves):
        node = leaf
        while parents[node] != node and altitudes[parents[node]] <= level:
            node = int(parents[node])
        tops.append(node)
    counts: dict[int, dict[int, float]] = {}
    for leaf, top in enumerate(tops):
        counts.setdefault(top, {}).setdefault(int(classes[leaf]), 0.0)
        counts[top][int(classes[leaf])] += sizes[leaf]
    chosen = {top: min(found, key=lambda c: (-found[c], c)) for top, found in counts.items()}
    place = {"axis": "z", "frame": 0, "index": 0, "level": 0, "x": 0, "y": 0}
    tile = np.frombuffer(page.get("/tiles/leaves", run="001", name="photo0", **place).content, "<u4").reshape(42, 54)
    expected = np.array([0, *(chosen[top] for top in tops)])[tile[1:-1, 1:-1]]
    written = tifffile.imread(f"{job['folder']}/labels/photo0.tif")
    assert np.array_equal(written, expected) and len(np.unique(tops)) > 3
    table = json.loads(open(f"{job['folder']}/classes.json").read())  # noqa: PTH123, SIM115
    assert [row["id"] for row in table] == [1, 3]
    archive = page.get("/api/export.zip", folder=job["folder"].rsplit("/", 1)[-1])
    assert archive.content[:2] == b"PK"


def test_formats_of_the_registries_hold_the_edited_labels(page, project, run):
    page.edit(op="merge", source=2, target=3)
    page.edit(op="rename", id=3, name="merged")
    page.say(type="export", run="001", images=["photo0"], formats=["numpy", "coco"])
    job = page.hear("job", state="done")
    assert job["failures"] == [] and job["done"] == job["total"] == 1
    with np.load(f"{job['folder']}/labels/photo0.npz") as archive:
        assert np.array_equal(archive["labels"], labels_of(page))
    coco = json.loads(next(Path(job["folder"]).rglob("*coco*.json")).read_text())
    assert "merged" in {row["name"] for row in coco["categories"]} and len(coco["images"]) == 1


def test_python_and_the_command_line_repeat_it(page, project, run, photos, tmp_path):
    from selfseg.apps.cli import main

    page.edit(op="merge", source=1, target=2)
    page.say(type="split", run="001", id=3, parts=2)
    page.hear("run", changed=True)
    page.edit(op="rename", id=2, name="the ground")
    page.edit(op="level", level=0.4)
    page.say(type="export", run="001", formats=["labels"])
    shown = tifffile.imread(f"{page.hear('job', state='done')['folder']}/labels/photo1.tif")
    recipe = page.get("/api/recipe", run="001").json()
    assert "selfseg predict" in recipe["command"] and "--edits" in recipe["command"]
    code = recipe["python"].replace("'out'", repr(str(tmp_path / "py")))
    exec(compile(code, "recipe", "exec"), {})
    assert np.array_equal(tifffile.imread(tmp_path / "py" / "labels" / "photo1.tif"), shown)
    inputs = [str(photos / "photo1.png"), "--edits", str(run.folder / "edits.json"), "-o", str(tmp_path / "cli"), "-q"]
    assert main(["predict", str(run.folder / MODEL), *inputs]) == 0
    assert np.array_equal(tifffile.imread(tmp_path / "cli" / "labels" / "photo1.tif"), shown)
    assert "the ground" in (tmp_path / "cli" / "classes.json").read_text()
    model = load(run.folder / MODEL)
    result = edited(model.fitted, model.predict(photos / "photo1.png"), read_edits(run.folder / "edits.json"))
    assert np.array_equal(result.labels, shown)


def test_scribbles_are_kept_undone_and_drawn(page, project, run):
    stroke = {"op": "stroke", "image": "photo0", "value": 2, "radius": 3, "points": [[5, 5], [9, 20]]}
    page.say(type="scribble", operation=stroke)
    assert len(page.hear("project", can_undo=True)["strokes"]) == 1
    page.say(type="undo", scope="scribbles")
    told = page.hear("project", can_redo=True)
    assert told["strokes"] == [] and told["can_redo"]


def test_a_result_that_is_missing_is_made_by_the_engine(project, run, photos):
    Pillow.fromarray(np.array(Pillow.open(photos / "photo0.png"))[::-1].copy()).save(photos / "photo2.png")
    project.refresh()
    with opened(project) as page:
        page.say(type="want", run="001", image="photo2")
        assert "photo2" in page.hear("run", results=["photo0", "photo1", "photo2"])["results"]


def test_another_folder_is_segmented_with_all_that_was_done(page, project, run, photos):
    more = photos / "more"
    more.mkdir()
    Pillow.open(photos / "photo1.png").save(more / "copy.png")
    page.edit(op="merge", source=1, target=2)
    page.say(type="apply", run="001", folder=str(more), formats=["labels"])
    job = page.hear("job", state="done")
    assert job["failures"] == [] and "labels/copy.tif" in job["files"]
    page.say(type="export", run="001", images=["photo1"], formats=["labels"])
    other = page.hear("job", state="done")
    written = [
        tifffile.imread(f"{each['folder']}/labels/{name}.tif") for each, name in ((job, "copy"), (other, "photo1"))
    ]
    assert np.array_equal(*written)


def test_a_run_that_was_put_away_can_be_found_in_the_bin(project, run):
    runs = Runs(project.folder / "runs")
    runs.remove(run)
    assert runs.all() == [] and (project.folder / "removed" / "001-1" / "spec.json").is_file()
    assert runs.create(Spec("next")).id == "001"


def test_the_schema_names_every_message():
    found = schema()
    assert {"page", "server"} == set(found)
    kinds = json.dumps(found["page"])
    for kind in ("start", "order", "change", "fork", "edit", "split", "scribble", "undo", "want", "export", "apply"):
        assert f'"{kind}"' in kinds
    with pytest.raises(ValueError, match="extra"):
        REQUESTS.validate_python({"type": "want", "run": "1", "image": "a", "more": 1})
