"""In a real browser: two pictures of discs, counted, measured and written in six actions; and the same files by hand."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from studio_hand import FIRST, Hand, Server, marks

pytestmark = marks

SPOTS = {"a": [(30, 30, 9), (30, 90, 9), (90, 40, 12), (96, 110, 5)], "b": [(40, 40, 10), (80, 100, 10)]}
"""Row, column and radius of the discs of each picture, in pixels of 0.5 µm."""


def write_discs(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :160]
    for name, spots in SPOTS.items():
        tone = np.full((128, 160), 30.0)
        for row, column, radius in spots:
            tone[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = 180.0
        picture = np.clip(tone + rng.normal(0, 4, tone.shape), 0, 255).astype(np.uint8)
        tifffile.imwrite(
            folder / f"{name}.tif", picture, resolution=(20000, 20000), resolutionunit="CENTIMETER",
        )  # fmt: skip
    return folder


def area(name):
    """Areas of the discs that are counted exactly, by brute force, in µm²."""
    y, x = np.mgrid[:128, :160]
    return sorted(float(((y - r) ** 2 + (x - c) ** 2 <= q * q).sum()) / 4 for r, c, q in SPOTS[name])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def discs(browser, tmp_path):
    server = Server(write_discs(tmp_path / "discs"))
    hand = Hand(browser, server.url)
    yield hand, tmp_path
    assert hand.faults == []
    hand.page.close()
    server.stop()


def counted(hand, n):
    hand.until(f"document.querySelector('studio-objects .number b')?.textContent.startsWith('{n} object')", 60)


def test_two_pictures_are_counted_and_measured_in_six_actions(discs):
    hand, folder = discs
    page = hand.page
    hand.until(FIRST)
    page.click("[role=tab][data-tab=objects]")  # 1
    page.click("#count")  # 2
    counted(hand, 4)
    page.locator("#least").evaluate("(box) => { box.value = 0.3; box.dispatchEvent(new Event('input')); }")
    page.locator("#least").evaluate("(box) => box.dispatchEvent(new Event('change'))")  # 3
    counted(hand, 3)
    assert "1 too small" in page.inner_text("studio-objects .number")
    page.click("studio-images [data-name=b]")  # 4
    counted(hand, 2)
    page.click("#write-objects")  # 5
    hand.until("[...state.jobs.values()].some((job) => job.state === 'done')")
    with page.expect_download() as download:
        page.click("studio-objects a.csv")  # 6
    rows = rows_of(download.value.path())
    found = {name: sorted(float(row["size"]) for row in rows if row["image"] == name) for name in SPOTS}
    assert found == {"a": area("a")[1:], "b": area("b")}
    assert {row["size_unit"] for row in rows} == {"micrometer²"}
    out = folder / "by_hand"
    run = folder / "discs.studio" / "runs" / "001"
    words = [sys.executable, "-m", "selfseg", "predict", str(run / "model"), str(folder / "discs"), "-q"]
    subprocess.run([*words, "--edits", str(run / "edits.json"), "-o", str(out)], check=True)
    assert rows_of(out / "instances.csv") == rows
    written = next(path for path in (folder / "discs.studio" / "exports").iterdir() if path.is_dir())
    for name in SPOTS:
        ours = tifffile.imread(written / "instances" / f"{name}.tif")
        assert np.array_equal(ours, tifffile.imread(out / "instances" / f"{name}.tif"))


def screen(hand, y, x):
    """The place on the screen of a point of the picture."""
    return hand.page.evaluate(
        """([y, x]) => {
          const pane = document.querySelector("studio-panes").panes[0], box = pane.element.getBoundingClientRect();
          const [left, top] = pane.transform.toScreen(x, y, pane.plane(), pane.width, pane.height);
          return [box.left + left, box.top + top];
        }""",
        [y, x],
    )


def drag(hand, *points):
    hand.page.mouse.move(*screen(hand, *points[0]))
    hand.page.mouse.down()
    for point in points[1:]:
        hand.page.mouse.move(*screen(hand, *point), steps=6)
    hand.page.mouse.up()


def test_labels_and_objects_are_corrected_by_hand_undone_and_repeated(discs):
    hand, folder = discs
    page = hand.page
    hand.until(FIRST)
    page.click("[role=tab][data-tab=objects]")
    page.click("#count")
    counted(hand, 4)
    choose = lambda label, value: page.select_option(f"studio-selection [aria-label='{label}']", value)  # noqa: E731
    page.keyboard.press("c")
    choose("What is corrected", "cut")
    drag(hand, (90.5, 22.0), (90.5, 58.0))  # right through the largest disc
    counted(hand, 5)
    choose("What is corrected", "join")
    page.mouse.click(*screen(hand, 30.5, 30.5))
    hand.until("state.correct.first")
    page.mouse.click(*screen(hand, 30.5, 90.5))
    counted(hand, 4)
    page.keyboard.press("Control+z")
    counted(hand, 5)
    page.keyboard.press("Control+Shift+z")
    counted(hand, 4)
    choose("What is corrected", "drop")
    page.mouse.click(*screen(hand, 96.5, 110.5))
    counted(hand, 3)
    choose("What is corrected", "paint")
    hand.until("state.correct.value !== null")
    bright = hand.get("[...state.runs.get('001').classes].at(-1).id")
    choose("Class that is given", str(bright))
    before = hand.get(f"scene.seg.areas().get({bright})")
    drag(hand, (60.0, 130.0), (60.0, 150.0))
    counted(hand, 4)  # what is painted is counted
    hand.until(f"scene.seg.areas().get({bright}) > {before} + 200")
    choose("What is corrected", "give")
    dark = hand.get("[...state.runs.get('001').classes][0].id")
    choose("Class that is given", str(dark))
    page.mouse.click(*screen(hand, 60.0, 140.0))
    counted(hand, 3)
    hand.until(f"scene.seg.areas().get({bright}) === {before}")
    page.keyboard.press("Control+z")
    counted(hand, 4)
    page.click("#write-objects")
    hand.until("[...state.jobs.values()].some((job) => job.state === 'done')")
    run = folder / "discs.studio" / "runs" / "001"
    words = [sys.executable, "-m", "selfseg", "predict", str(run / "model"), str(folder / "discs"), "-q"]
    subprocess.run([*words, "--edits", str(run / "edits.json"), "-o", str(folder / "again")], check=True)
    written = next(path for path in (folder / "discs.studio" / "exports").iterdir() if path.is_dir())
    assert rows_of(folder / "again" / "instances.csv") == rows_of(written / "instances.csv")
    for kind in ("labels", "instances"):
        for name in SPOTS:
            ours, theirs = (tifffile.imread(place / kind / f"{name}.tif") for place in (written, folder / "again"))
            assert np.array_equal(ours, theirs)


def test_table_and_picture_go_both_ways(discs):
    hand, _ = discs
    page = hand.page
    hand.until(FIRST)
    page.click("[role=tab][data-tab=objects]")
    page.click("#count")
    counted(hand, 4)
    page.click("studio-objects .row >> nth=2")
    hand.until("state.chosenObjects.length === 1")
    chosen = hand.get("state.chosenObjects[0]")
    middle = hand.get(
        "(() => { const t = document.querySelector('studio-panes').panes[0].transform; return [t.y, t.x]; })()"
    )
    assert np.allclose(middle, [90.5, 40.5], atol=1)
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    box = page.locator(".pane").bounding_box()
    at = page.evaluate(
        """() => {
          const pane = document.querySelector("studio-panes").panes[0];
          return pane.transform.toScreen(40.5, 90.5, pane.plane(), pane.width, pane.height);
        }"""
    )
    page.mouse.click(box["x"] + at[0], box["y"] + at[1])
    hand.until(f"state.chosenObjects.join() === '{chosen}'")
    assert page.locator("studio-objects .row.chosen").get_attribute("data-object") == str(chosen)
