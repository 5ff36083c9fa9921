"""The whole way in a real browser: see, train, slide, merge, name, undo, export, reload; and a server that is killed."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as engine:
        options = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        found = engine.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


@pytest.fixture
def photo(tmp_path):
    """The astronaut that comes with scikit-image, a quarter of it, so that training takes seconds."""
    from skimage import data

    path = tmp_path / "astronaut.png"
    Pillow.fromarray(np.ascontiguousarray(data.astronaut()[::2, ::2])).save(path)
    return path


class Server:
    """`selfseg studio` in a process of its own."""

    def __init__(self, *inputs):
        words = [sys.executable, "-m", "selfseg", "studio", *map(str, inputs), "--no-browser"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.url = re.search(r"http://\S+", line).group(0)

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Hand:
    """A person at the page."""

    def __init__(self, browser, url):
        self.page = browser.new_page(viewport={"width": 1360, "height": 850})
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda asked: self._ours(asked.url, url))
        self.page.goto(url)

    def _ours(self, asked, url):
        home = url.split("/?")[0]
        if not asked.startswith((home, home.replace("http", "ws"), "blob:", "data:")):
            self.faults.append(f"asked another machine: {asked}")

    def until(self, condition, seconds=120):
        """Wait for a condition over the page's state; the page's policy forbids waiting inside it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.page.evaluate(f"() => {{ const {{ state, scene }} = studio; return Boolean({condition}); }}"):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{condition}; notices: {self.page.inner_text('studio-notices')}")

    def get(self, expression):
        return self.page.evaluate(f"() => {{ const {{ state, scene }} = studio; return {expression}; }}")

    def classes(self):
        return self.get("[...state.runs.get(state.run).classes].map(({ id, name }) => [id, name])")

    def place_of(self, label):
        """A point on the screen whose whole neighbourhood has this label, away from the bar at the foot."""
        script = """(label) => {
          const pane = document.querySelector("studio-panes").panes[0], box = pane.element.getBoundingClientRect();
          const labelAt = (x, y) => {
            const found = pane.probe(x, y);
            return found && found.leaf >= 0 ? pane.scene.seg.labels[found.leaf] : -1;
          };
          const around = [[0, 0], [4, 0], [-4, 0], [0, 4], [0, -4]];
          for (let y = 12; y < box.height - 90; y += 6)
            for (let x = 12; x < box.width - 12; x += 6)
              if (around.every(([a, b]) => labelAt(x + a, y + b) === label)) return [box.left + x, box.top + y];
          return null;
        }"""
        return self.page.evaluate(script, label)

    def shown_labels(self):
        """The label image as the page has it: its tile of leaves through its own table."""
        script = """() => {
          const pane = document.querySelector("studio-panes").panes[0], seg = pane.scene.seg;
          const ours = (key) => key.startsWith(`/tiles/leaves?run=${seg.run}&`) && key.includes("level=0&x=0&y=0");
          const key = [...pane.tiles.kept.keys()].find(ours);
          return [...pane.tiles.kept.get(key).data].map((leaf) => (leaf ? seg.labels[leaf - 1] : 0));
        }"""
        side = 256 + 2
        return np.array(self.page.evaluate(script)).reshape(side, side)[1:-1, 1:-1]


@pytest.fixture
def server(photo):
    found = Server(photo)
    yield found
    found.stop()


FIRST = """scene.seg?.labels && [...document.querySelector('studio-panes').panes[0].tiles.kept.keys()].some(
  (key) => key.startsWith(`/tiles/leaves?run=${scene.seg.run}`))"""


def drag_slider(hand, share):
    box = hand.page.locator("#level").bounding_box()
    y = box["y"] + box["height"] / 2
    hand.page.mouse.move(box["x"] + 7, y)
    hand.page.mouse.down()
    for step in range(1, 11):
        hand.page.mouse.move(box["x"] + 7 + (box["width"] - 14) * share * step / 10, y)
    hand.page.mouse.up()


def train(hand):
    """Start feature clustering with four classes, see it learn, wait until it is shown."""
    page = hand.page
    page.click("[role=tab][data-tab=learn]")
    hand.until("state.methods.length > 0")
    page.select_option("#method", "feature_clustering")
    page.select_option("#preset", "fast")
    page.fill("#n-classes", "4")
    page.click("#start")
    hand.until("state.runs.get('002')?.state === 'learning' && (state.figures.get('002') ?? []).length > 2")
    page.wait_for_selector("article[data-run='002'] .legend span")
    hand.until(
        f"state.runs.get('002')?.state === 'done' && state.run === '002' && scene.seg?.run === '002' && {FIRST}", 400
    )
    assert [key for key, _ in hand.classes()] == [1, 2, 3, 4]
    page.click("[role=tab][data-tab=classes]")


def merge_by_clicking(hand):
    """Merge two classes by clicking a region of each; return the id that stays."""
    keeps, goes = [key for key in np.unique(hand.shown_labels()).tolist() if key > 0 and hand.place_of(key)][:2]
    hand.page.click("[data-tool=merge]")
    hand.page.mouse.click(*hand.place_of(keeps))
    hand.page.mouse.click(*hand.place_of(goes))
    hand.until("state.runs.get('002').classes.length === 3")
    return keeps


def name_and_undo(hand, key):
    """Name a class; merge two others by dragging one onto the other, and take that back."""
    page = hand.page
    page.click("studio-selection >> text=Rename")
    hand.until("document.activeElement.type === 'text'")
    page.keyboard.type("suit")
    page.keyboard.press("Enter")
    hand.until(f"state.runs.get('002').classes.some((row) => row.id === {key} && row.name === 'suit')")
    rows = [row for row, _ in hand.classes()]
    page.drag_and_drop(f"li[data-id='{rows[-1]}'] .grip", f"li[data-id='{rows[0]}'] .grip")
    hand.until("state.runs.get('002').classes.length === 2")
    page.keyboard.press("Control+z")
    hand.until("state.runs.get('002').classes.length === 3")


def test_from_a_photo_to_named_classes_and_exported_labels(browser, server, photo):
    hand = Hand(browser, server.url)
    page = hand.page
    assert "token" not in page.url  # it moved into a cookie
    hand.until(FIRST)
    train(hand)
    before = hand.shown_labels()
    drag_slider(hand, 0.45)
    hand.until("state.runs.get('002').level > 0 && state.level === null")
    assert not np.array_equal(hand.shown_labels(), before)
    assert np.median(hand.get("scene.slideTimes")) < 50  # milliseconds from hand to picture
    name_and_undo(hand, merge_by_clicking(hand))
    page.click("[role=tab][data-tab=take]")
    page.click("#export")
    hand.until("[...state.jobs.values()].some((job) => job.state === 'done')")
    folder, shown = hand.get("[...state.jobs.values()][0].folder"), hand.shown_labels()
    assert np.array_equal(tifffile.imread(f"{folder}/labels/astronaut.tif"), shown)
    with page.expect_download() as download:
        page.click("a.download")
    assert download.value.suggested_filename.endswith(".zip")
    kept = hand.classes(), hand.get("state.runs.get('002').level")
    page.reload()
    hand.until(f"state.run === '002' && scene.seg?.run === '002' && {FIRST}")
    assert (hand.classes(), hand.get("state.runs.get('002').level")) == kept
    assert np.array_equal(hand.shown_labels(), shown)
    page.click("[role=tab][data-tab=take]")
    page.wait_for_selector("studio-take pre >> text=Edits.from_json")
    assert hand.faults == []
    page.close()


def test_nothing_is_lost_when_the_server_is_killed(browser, photo):
    server = Server(photo)
    try:
        hand = Hand(browser, server.url)
        hand.until(FIRST)
        first = hand.classes()
        hand.page.fill(f"li[data-id='{first[0][0]}'] input[type=text]", "kept")
        hand.page.keyboard.press("Enter")
        drag_slider(hand, 0.3)
        hand.until("state.runs.get('001').level >= 0 && state.runs.get('001').classes[0].name === 'kept'")
        level = hand.get("state.runs.get('001').level")
        hand.page.click("[role=tab][data-tab=learn]")
        hand.until("state.methods.length > 0")
        hand.page.select_option("#method", "feature_clustering")
        hand.page.select_option("#preset", "fast")
        hand.page.click("#start")
        hand.until("state.runs.get('002')?.state === 'learning'")
        server.kill()
        hand.until("!state.connected")
        hand.page.close()
        journal = photo.parent / "astronaut.studio" / "runs" / "002" / "model" / "journal.jsonl"
        there = len(journal.read_text().splitlines()) if journal.exists() else 0
        server = Server(photo)
        hand = Hand(browser, server.url)
        hand.until(FIRST)
        told = hand.get("state.runs.get('001')")
        assert told["classes"][0]["name"] == "kept" and told["level"] == level and told["can_undo"]
        hand.until("state.runs.get('002')?.state === 'done'", 400)  # the run went on without the server
        rows = [json.loads(line)["step"] for line in journal.read_text().splitlines()]
        assert rows == list(range(1, len(rows) + 1)) and len(rows) >= max(there, 1)
        assert hand.get("state.figures.get('002').length") == len(rows)
        assert hand.faults == []
        hand.page.close()
    finally:
        server.stop()


def draw(hand, value, points):
    """Draw a stroke of a class over points on the screen."""
    hand.page.select_option("studio-selection select", str(value))
    hand.page.mouse.move(*points[0])
    hand.page.mouse.down()
    for x, y in points[1:]:
        hand.page.mouse.move(x, y, steps=4)
    hand.page.mouse.up()
    hand.until(f"state.project.strokes.some((stroke) => stroke.value === {value})")


def change_continuity(hand):
    """Change a weight of the run at work, once the page has said what it will do; and see that a fixed option is told apart."""
    page = hand.page
    page.click("article[data-run='002'] >> text=Change options…")
    said = page.locator("dialog .consequence")
    assert said.inner_text() == "Nothing is changed yet."
    border = page.locator("dialog .option", has_text="border").locator("select").first
    border.select_option("zeros")
    assert "begins anew" in said.inner_text() and "border" in said.inner_text()
    border.select_option("repeat")
    page.locator("dialog .option", has=page.locator(".name", has_text="continuity")).locator("input").fill("0.25")
    assert "does not stop" in said.inner_text()
    page.click("dialog .buttons .main")
    hand.until("state.runs.get('002').changes.length === 1")
    assert hand.get("state.runs.get('002').changes[0].options") == {"continuity": 0.25}
    assert hand.get("state.runs.get('002').state") == "learning"  # it did not stop for that


def test_scribbles_teach_the_next_run_whose_options_change_while_it_learns(browser, server, photo):
    hand = Hand(browser, server.url)
    page = hand.page
    hand.until(FIRST)
    page.click("[data-tool=scribble]")
    box = page.locator(".pane").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    draw(hand, 1, [at(0.25, 0.2), at(0.3, 0.35)])
    draw(hand, 2, [at(0.5, 0.75), at(0.6, 0.8)])
    strokes = hand.get("state.project.strokes.map(({ value, points }) => [value, points])")
    page.click("[role=tab][data-tab=learn]")
    hand.until("state.methods.length > 0")
    page.select_option("#method", "feature_clustering")
    page.fill("#n-classes", "4")
    page.click("summary >> text=All options")
    page.locator("studio-start .option", has=page.locator(".name", has_text="iterations")).locator("input").fill("2000")
    assert page.locator("text=learn from my scribbles").is_visible()
    page.click("#start")
    hand.until("state.runs.get('002')?.checkpoints.length > 0", 300)
    change_continuity(hand)
    page.click("article[data-run='002'] >> text=Finish now")
    hand.until(f"state.runs.get('002')?.state === 'done' && scene.seg?.run === '002' && {FIRST}", 300)
    names = dict(map(tuple, hand.classes()))
    kept = json.loads((photo.parent / "astronaut.studio/runs/002/model/classes.json").read_text())
    assert sum("scribble" in row["name"] for row in kept) == 2
    shown = hand.shown_labels()
    found = []
    for _, points in strokes:
        under = [int(shown[int(y), int(x)]) for y, x in points]
        best = max(set(under), key=under.count)
        assert under.count(best) > 0.6 * len(under) and names[best]
        found.append(best)
    assert len(set(found)) == 2  # what was scribbled apart is apart
    assert hand.faults == []
    page.close()
