"""In a real browser: a stroke is answered at once, the doubt is shown, and the run that uses the strokes gives what was shown."""

import numpy as np
from PIL import Image as Picture
from test_studio_browser_identity import draw, scene_of

from studio_hand import FIRST, Hand, Server, marks

pytestmark = marks


def answered(hand, strokes):
    hand.until(f"state.project.strokes.length === {strokes} && state.answer?.whole", 60)
    hand.until("document.querySelector('studio-panes').panes[0].scene.over", 10)


def answer_of(hand):
    rows, columns = hand.get("state.answer.shape")
    return np.array(hand.get("[...state.answer.labels]"), np.uint8).reshape(rows, columns)


def test_strokes_are_answered_at_once_and_used(browser, tmp_path):
    server = Server(scene_of(tmp_path / "zoo.png"))
    try:
        hand = Hand(browser, server.url)
        page = hand.page
        hand.until(FIRST)
        names = dict(map(tuple, hand.classes()))
        labels = hand.shown_labels()
        bear, ground = (names[int(labels[y, x])] for y, x in ((130, 175), (40, 30)))
        one = draw(hand, bear, [(115, 160), (140, 190)])
        two = draw(hand, ground, [(60, 30), (200, 40)])
        answered(hand, 2)
        shown = answer_of(hand)
        assert (shown[110:150, 160:190] == one).mean() > 0.95 and (shown[100:160, 20:70] == two).mean() > 0.95
        stamp = hand.get("state.answer.stamp")
        draw(hand, ground, [(30, 110), (30, 220)])  # the wall is ground as well
        hand.until(f"state.answer.stamp > {stamp} && state.answer.whole", 60)
        assert (answer_of(hand)[10:50, 120:240] == two).mean() > 0.9
        page.keyboard.press("4")  # confidence: the doubt is shown instead
        hand.until("document.querySelector('studio-panes').panes[0].scene.preview.key.endsWith('true')")
        page.keyboard.press("n")
        y, x = hand.get("state.answer.spot")
        middle = hand.get("(({ x, y }) => [y, x])(document.querySelector('studio-panes').panes[0].transform)")
        assert np.allclose(middle, (y, x), atol=1)
        last = answer_of(hand)
        page.keyboard.press("1")
        page.click("studio-selection >> text=Use this")
        hand.until(f"state.runs.get('002')?.state === 'done' && scene.seg?.run === '002' && {FIRST}", 120)
        assert hand.get("state.runs.get('002').method") == "pixel_classifier"
        assert (hand.shown_labels() == last).mean() > 0.999  # what was shown is what the run gives
        assert hand.faults == []
        page.close()
    finally:
        server.stop()


def test_an_erased_stroke_counts_no_longer(browser, tmp_path):
    Picture.fromarray(np.tile(np.repeat(np.array([40, 200], np.uint8), 64), (128, 1))).save(tmp_path / "two.png")
    server = Server(tmp_path / "two.png")
    try:
        hand = Hand(browser, server.url)
        hand.until(FIRST)
        names = dict(map(tuple, hand.classes()))
        draw(hand, names[1], [(20, 20), (100, 20)])
        draw(hand, names[2], [(20, 100), (100, 100)])
        answered(hand, 2)
        assert len(np.unique(answer_of(hand))) == 2
        stamp = hand.get("state.answer.stamp")
        draw(hand, "eraser", [(10, 100), (118, 100)])
        hand.page.click("studio-selection >> text=Clear")
        hand.until("state.project.strokes.length === 0")
        hand.page.keyboard.press("Control+z")
        hand.until("state.project.strokes.length === 3")
        assert hand.get("state.answer.stamp") == stamp  # one class alone is no answer
        assert hand.faults == []
        hand.page.close()
    finally:
        server.stop()
