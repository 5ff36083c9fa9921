"""In a real browser: a class that is named and stroked keeps its number, name and colour through three trainings."""

import json

import numpy as np
from PIL import Image as Picture

from studio_hand import FIRST, Hand, Server, marks

pytestmark = marks


def scene_of(path):
    """A picture whose bright bear lies on dark ground beside a grey wall: brightness would number the bear last."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    tone = np.where(x < 90, 60.0, 130.0)
    tone[(y - 130) ** 2 + (x - 175) ** 2 < 55**2] = 215.0
    noise = rng.normal(0, 9, (256, 256, 3)) + np.array([0, 6, -6])
    Picture.fromarray(np.clip(tone[..., None] + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def to_screen(hand, y, x):
    return hand.page.evaluate(
        """([y, x]) => {
          const pane = document.querySelector("studio-panes").panes[0], box = pane.element.getBoundingClientRect();
          const [left, top] = pane.transform.toScreen(x, y, pane.plane(), pane.width, pane.height);
          return [box.left + left, box.top + top];
        }""",
        [y, x],
    )


def draw(hand, name, points):
    """Draw a stroke with the brush of that name; return the value under which it was kept."""
    count = hand.get("state.project.strokes.length")
    hand.page.click("[data-tool=scribble]")
    hand.page.select_option("studio-selection select", label=name)
    hand.page.mouse.move(*to_screen(hand, *points[0]))
    hand.page.mouse.down()
    for point in points[1:]:
        hand.page.mouse.move(*to_screen(hand, *point), steps=4)
    hand.page.mouse.up()
    hand.until(f"state.project.strokes.length === {count + 1}")
    return hand.get("state.project.strokes.at(-1).value")


def train(hand, run, method="feature_clustering"):
    page = hand.page
    page.click("[role=tab][data-tab=learn]")
    hand.until("state.methods.length > 0")
    hand.expert()
    page.select_option("#method", method)
    if method == "feature_clustering":
        page.select_option("#preset", "fast")
    page.click("#start")
    hand.until(
        f"state.runs.get('{run}')?.state === 'done' && state.run === '{run}' && scene.seg?.run === '{run}' && {FIRST}",
        300,
    )


def bear_of(hand):
    rows = hand.get("state.runs.get(state.run).classes")
    bears = [row for row in rows if row["name"] == "bear"]
    assert len(bears) == 1, rows  # never two of one name
    return bears[0]


def test_a_class_keeps_its_identity_through_three_trainings(browser, tmp_path):
    path = scene_of(tmp_path / "zoo.png")
    server = Server(path)
    try:
        hand = Hand(browser, server.url)
        page = hand.page
        hand.until(FIRST)
        page.click("[role=tab][data-tab=classes]")
        centre = int(hand.shown_labels()[130, 175])
        page.fill(f"li[data-id='{centre}'] input[type=text]", "bear")
        page.keyboard.press("Enter")
        hand.until("state.runs.get('001').classes.some((row) => row.name === 'bear')")
        colour = bear_of(hand)["rgba"]
        ground = int(hand.shown_labels()[40, 30])
        other = hand.get(f"state.runs.get('001').classes.find((row) => row.id === {ground}).name")
        bear = draw(hand, "bear", [(115, 160), (140, 190)])
        told = draw(hand, other, [(60, 30), (200, 40)])
        assert bear != told
        for run, point in (("002", (150, 150)), ("003", (100, 190))):
            train(hand, run)
            row = bear_of(hand)
            assert (row["id"], row["rgba"], row["identity"]) == (bear, colour, bear)
            assert (hand.shown_labels()[110:150, 160:190] == bear).mean() > 0.6
            assert (
                draw(hand, "bear", [point, (point[0] + 6, point[1] + 6)]) == bear
            )  # the next stroke is stored as bear
            shown = hand.get(
                "document.querySelector('studio-panes').panes[0].scene.strokes.map(({ value, colour }) => [value, colour])"
            )
            assert {value: ink for value, ink in shown}[bear] == f"rgb({','.join(map(str, colour[:3]))})"
        train(hand, "004", "kmeans")  # learns nothing from strokes: they tell which of its classes is the bear
        assert (bear_of(hand)["id"], bear_of(hand)["rgba"]) == (bear, colour)
        assert (hand.shown_labels()[110:150, 160:190] == bear).mean() > 0.9
        kept = json.loads((tmp_path / "zoo.studio/runs/004/model/classes.json").read_text())
        assert [row["id"] for row in kept] == list(range(1, len(kept) + 1))
        assert hand.faults == []
        page.close()
    finally:
        server.stop()
