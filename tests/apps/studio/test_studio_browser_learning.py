"""In a real browser: scribbles that teach the next run, options that change while it learns, and a video."""

import json
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from conftest import write_clip
from studio_hand import FIRST, Hand, Server, marks

pytestmark = marks


def draw(hand, value, points):
    """Draw a stroke of a class over points on the screen."""
    hand.page.select_option("studio-selection select", str(value))
    hand.page.mouse.move(*points[0])
    hand.page.mouse.down()
    for x, y in points[1:]:
        hand.page.mouse.move(x, y, steps=4)
    hand.page.mouse.up()
    hand.until(f"state.project.strokes.some((stroke) => stroke.value === {value})")


def along(points):
    """All places on a stroke, a pixel apart, as (y, x)."""
    for start, end in pairwise(points):
        for part in np.linspace(0, 1, max(2, round(math.dist(start, end)))):
            yield tuple(np.add(np.multiply(start, 1 - part), np.multiply(end, part)))


def change_continuity(hand):
    """Change a weight of the run at work, once the page has said what it will do; and see that a fixed option is told apart."""
    page = hand.page
    page.click("article[data-run='002'] >> text=Change options…")
    said = page.locator("dialog.change .consequence")
    assert said.inner_text() == "Nothing is changed yet."
    border = page.locator("dialog.change .option", has_text="border").locator("select").first
    border.select_option("zeros")
    assert "begins anew" in said.inner_text() and "border" in said.inner_text()
    border.select_option("repeat")
    page.locator("dialog.change .option", has=page.locator(".name", has_text="continuity")).locator("input").fill(
        "0.25"
    )
    assert "does not stop" in said.inner_text()
    page.click("dialog.change .buttons .main")
    hand.until("state.runs.get('002').changes.length === 1")
    assert hand.get("state.runs.get('002').changes[0].options") == {"continuity": 0.25}
    assert hand.get("state.runs.get('002').state") == "learning"  # it did not stop for that


def test_scribbles_teach_the_next_run_whose_options_change_while_it_learns(browser, studio, photo):
    hand = Hand(browser, studio.url)
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
    hand.expert()
    page.select_option("#method", "feature_clustering")
    page.click("summary >> text=All options")
    for name, value in (
        ("n features", "16"),
        ("n clusters", "16"),
        ("iterations", "5000"),
        ("min classes", "1"),
        ("continuity", "0"),  # else clusters die, and the run is done, before a quick machine has the dialogue open
        ("learning rate", "0.01"),
    ):
        option = page.locator("studio-start .option", has=page.locator(".name", has_text=re.compile(f"^{name}$")))
        option.locator("input").fill(value)
    assert page.locator("text=learn from my scribbles").is_visible()
    page.click("#start")
    hand.until("(state.figures.get('002') ?? []).length > 1", 300)  # early: a quick machine has soon learned all
    change_continuity(hand)
    hand.until("(state.figures.get('002') ?? []).length > 120", 300)
    page.click("article[data-run='002'] >> text=Finish now")
    hand.until(f"state.runs.get('002')?.state === 'done' && scene.seg?.run === '002' && {FIRST}", 300)
    names = dict(map(tuple, hand.classes()))
    kept = json.loads((photo.parent / "astronaut.studio/runs/002/model/classes.json").read_text())
    assert sum("scribble" in row["name"] for row in kept) == 2
    shown = hand.shown_labels()
    found = []
    for _, points in strokes:
        under = [int(shown[int(y), int(x)]) for y, x in along(points)]
        (best, count), *_ = Counter(under).most_common()
        assert count > 0.5 * len(under) and names[best]
        found.append(best)
    assert len(set(found)) == 2  # what was scribbled apart is apart
    assert hand.faults == []
    page.close()


def test_a_video_is_scrubbed_stepped_and_played(browser, tmp_path):
    pytest.importorskip("av", reason="no PyAV: pip install 'selfseg[video]'")
    server = Server(write_clip(tmp_path / "bar.mkv", 40, codec="ffv1", pixels="bgr0"))
    try:
        hand = Hand(browser, server.url)
        page = hand.page
        drawn = "document.querySelector('studio-panes').panes[0].whole?.frame"
        hand.until(FIRST)
        page.keyboard.press(".")
        page.keyboard.press(".")
        page.keyboard.press(",")
        hand.until(f"state.frame === 1 && {drawn} === 1")
        page.locator("[aria-label=Frame]").fill("35")  # beyond those that the run segments by itself
        hand.until(f"scene.seg?.frame === 35 && {drawn} === 35 && state.runs.get('001').results.includes('bar#35')")
        page.locator("[aria-label=Frame]").fill("2")
        page.click("[aria-label='Play frames']")
        hand.until(f"state.frame > 6 && {drawn} > 5")
        page.click("[aria-label='Play frames']")
        assert hand.get("state.playing") is None and "/ 40" in page.locator("studio-planes output").last.inner_text()
        assert hand.faults == []
        page.close()
    finally:
        server.stop()
