"""In a real browser: folders to add pictures from, colours against the picture, hidden scribbles, a volume in 3D beside its slices."""

import numpy as np
import tifffile
from PIL import Image as Picture
from test_studio_browser_identity import draw

from studio_hand import FIRST, Hand, Server, marks

pytestmark = marks


def grey_boxes(path):
    """A grey picture: a light box on a dark ground."""
    values = np.full((96, 128), 70, np.uint8)
    values[20:70, 30:90] = 190
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(values).save(path)
    return path


def test_pictures_are_added_from_the_folders_of_the_studio(browser, tmp_path):
    first = grey_boxes(tmp_path / "day" / "one.png")
    for name in ("two", "three"):
        grey_boxes(tmp_path / "day" / "later" / f"{name}.png")
    (tmp_path / "day" / "notes.txt").write_text("no picture")
    server = Server(first)
    try:
        hand = Hand(browser, server.url)
        page = hand.page
        hand.until(FIRST)
        page.click("studio-images .add")
        page.click("dialog.browse >> text=day/")
        page.wait_for_selector("dialog.browse label >> text=one.png")
        assert page.locator("dialog.browse li").all_inner_texts() == ["later/", "one.png"]
        page.click("dialog.browse >> text=later/")
        page.click("dialog.browse label >> text=two.png")
        page.click("dialog.browse >> text=Add 1")
        hand.until("state.project.images.join() === 'one,two'")
        page.click("studio-images .add")
        page.click("dialog.browse >> text=day/")
        page.click("dialog.browse >> text=later/")
        page.click("dialog.browse >> text=Add this folder")
        hand.until("state.project.images.length === 3")
        page.click("[role=tab][data-tab=export]")
        page.click("studio-export >> text=Browse…")
        page.click("dialog.browse >> text=day/")
        page.click("dialog.browse >> text=later/")
        page.click("dialog.browse >> text=Choose this folder")
        page.click("text=Segment the folder")
        hand.until("[...state.jobs.values()].some((job) => job.state === 'done' && job.total === 2)")
        assert hand.faults == []
        page.close()
    finally:
        server.stop()


def test_colours_stand_out_and_scribbles_hide(browser, tmp_path):
    server = Server(grey_boxes(tmp_path / "box.png"))
    try:
        hand = Hand(browser, server.url)
        page = hand.page
        hand.until(FIRST)
        colours = "state.runs.get('001').classes.map((row) => row.rgba.join()).join(' ')"
        before = hand.get(colours)
        page.click("[role=tab][data-tab=classes]")
        page.click("text=Colours that stand out")
        hand.until(f"{colours} !== '{before}' && state.runs.get('001').can_undo")
        page.click("#undo")
        hand.until(f"{colours} === '{before}'")
        assert page.locator("[data-layer=strokes]").is_hidden()
        names = dict(map(tuple, hand.classes()))
        draw(hand, next(iter(names.values())), [(40, 40), (60, 80)])
        hand.until("state.project.strokes.length === 1")
        page.keyboard.press("Escape")
        shown = "document.querySelector('studio-panes').panes[0].scene.strokes.length"
        hand.until(f"{shown} === 1")
        page.keyboard.press("h")
        hand.until(f"{shown} === 0")
        page.keyboard.press("b")  # who draws sees what is drawn
        hand.until(f"{shown} === 1")
        assert hand.faults == []
        page.close()
    finally:
        server.stop()


def test_a_volume_turns_beside_its_slices_and_follows_the_slider(browser, tmp_path):
    z, y, x = np.ogrid[:24, :40, :48]
    ball = (z - 12) ** 2 + (y - 20) ** 2 + (x - 16) ** 2 < 90
    noise = np.random.default_rng(0).normal(0, 6, ball.shape)
    tifffile.imwrite(
        tmp_path / "ball.tif", (60 + 120 * ball + noise).astype(np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    server = Server(tmp_path / "ball.tif")
    try:
        hand = Hand(browser, server.url)
        page = hand.page
        hand.until(FIRST)
        page.keyboard.press("t")
        page.keyboard.press("d")
        labels = "document.querySelector('.pane.solid')?.dataset.shown"
        hand.until(f"{labels}?.startsWith('ball|0|001|-1|')")
        assert page.locator("studio-panes .pane").count() == 4
        voxels = "[...new Set(studio.solid.volumes[1].img)].length"
        assert hand.get(voxels) == len(hand.classes())
        page.keyboard.press("]")
        hand.until("state.runs.get('001').level >= 0")
        hand.until(f"{labels} && !{labels}.startsWith('ball|0|001|-1|')")
        page.click("#undo")
        hand.until(f"{labels}?.startsWith('ball|0|001|-1|')")
        page.keyboard.press("d")
        hand.until("!document.querySelector('.pane.solid')")
        assert hand.faults == []
        page.close()
    finally:
        server.stop()
