"""The whole way in a real browser: see, train, slide, merge, name, undo, export, reload; and a server that is killed."""

import json

import numpy as np
import tifffile

from studio_hand import FIRST, Hand, Server, marks

pytestmark = marks


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
    hand.expert()
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


def test_from_a_photo_to_named_classes_and_exported_labels(browser, studio, photo):
    hand = Hand(browser, studio.url)
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
    page.click("[role=tab][data-tab=export]")
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
    page.click("[role=tab][data-tab=export]")
    page.wait_for_selector("studio-export pre >> text=Edits.from_json")
    assert hand.faults == []
    page.close()


def test_nothing_is_lost_when_the_server_is_killed(browser, photo):
    server = Server(photo)
    try:
        hand = Hand(browser, server.url)
        hand.until(FIRST)
        hand.page.click("[role=tab][data-tab=classes]")
        first = hand.classes()
        hand.page.fill(f"li[data-id='{first[0][0]}'] input[type=text]", "kept")
        hand.page.keyboard.press("Enter")
        drag_slider(hand, 0.3)
        hand.until("state.runs.get('001').level >= 0 && state.runs.get('001').classes[0].name === 'kept'")
        level = hand.get("state.runs.get('001').level")
        hand.page.click("[role=tab][data-tab=learn]")
        hand.until("state.methods.length > 0")
        hand.expert()
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
        hand.until(f"state.figures.get('002').length === {len(rows)}")
        assert hand.faults == []
        hand.page.close()
    finally:
        server.stop()
