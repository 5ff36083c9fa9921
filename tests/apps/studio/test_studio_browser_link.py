"""In a real browser: a server that dies and comes back, work of the hand meanwhile, notes of a run, contrast, themes, narrow pages."""

import re

import numpy as np
import pytest
import tifffile

from studio_hand import FIRST, Hand, Server, marks

pytestmark = marks


def test_a_restarted_server_is_met_again_and_nothing_of_the_hand_is_lost(browser, photo):
    server = Server(photo)
    port = re.search(r":(\d+)/", server.url).group(1)
    try:
        hand = Hand(browser, server.url)
        page = hand.page
        hand.until(FIRST)
        page.click("[role=tab][data-tab=classes]")
        first = hand.classes()[0][0]
        server.kill()
        hand.until("!state.connected")
        page.fill(f"li[data-id='{first}'] input[type=text]", "while it was away")
        page.keyboard.press("Enter")
        hand.until("state.unstored === 1")
        assert "1 change not stored yet" in page.inner_text("#link-state")
        assert hand.classes()[0][1] != "while it was away"  # nothing is shown as stored that is not
        server = Server(photo, "--port", port)  # the same secret: the tab goes on
        hand.until("state.connected && state.unstored === 0", 60)
        hand.until("state.runs.get('001').classes[0].name === 'while it was away'")
        log = (photo.parent / "astronaut.studio" / "events.jsonl").read_text()
        assert log.count("while it was away") == 1  # stored once, however often it was sent
        assert page.inner_text("#link-state") == ""
        server.kill()
        (photo.parent / "astronaut.studio" / "token").unlink()
        server = Server(photo, "--port", port)
        hand.until("state.refused", 60)
        assert "open the address that it printed" in page.inner_text("#link-state")
        page.close()
    finally:
        server.stop()


def test_the_secret_of_a_project_is_its_owners_alone(photo):
    server = Server(photo)
    server.stop()
    token = photo.parent / "astronaut.studio" / "token"
    assert token.stat().st_mode & 0o077 == 0 and token.read_text() in server.url
    token.chmod(0o644)  # another may have read it
    again = Server(photo)
    again.stop()
    assert again.url.split("token=")[1] != server.url.split("token=")[1] and token.stat().st_mode & 0o077 == 0


@pytest.fixture
def deep(browser, tmp_path):
    """A 16-bit checkerboard, 3000 and 3400 with noise 40, whose largest value is that of the camera."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    picture = np.where((y // 48 + x // 48) % 2, 3400, 3000) + rng.normal(0, 40, (192, 192))
    picture[:20, :48] = 65535
    tifffile.imwrite(tmp_path / "board.tif", picture.astype(np.uint16))
    server = Server(tmp_path / "board.tif")
    hand = Hand(browser, server.url)
    hand.until(FIRST)
    yield hand
    assert hand.faults == []
    hand.page.close()
    server.stop()


def test_notes_are_on_the_page_and_contrast_is_set_by_numbers(deep):
    page = deep.page
    page.click("studio-status summary")
    told = page.inner_text("studio-status")
    assert "saturated" in told and "65535" in told
    assert re.search(r"limits|between|values", told)  # which limits the run took
    page.click("summary >> text=Contrast")
    assert page.locator("studio-layers .channel canvas").is_visible()
    for which, value in (("black", "2900"), ("white", "3400")):
        page.fill(f"[aria-label$='{which} value']", value)
        page.keyboard.press("Enter")
    deep.until("JSON.stringify(Object.values(state.display)[0].ranges) === '[[2900,3400]]'")
    page.click("studio-layers >> text=Auto")
    deep.until(
        "Object.values(state.display)[0].ranges[0][0] > 2800 && Object.values(state.display)[0].ranges[0][1] > 3400"
    )
    page.locator("[aria-label=Gamma]").evaluate("(box) => { box.value = 2; box.dispatchEvent(new Event('input')); }")
    deep.until("Object.values(state.display)[0].gamma === 2")


@pytest.mark.parametrize("width", [1400, 900, 600])
def test_every_page_fits_in_light_and_dark(deep, width):
    page = deep.page
    page.set_viewport_size({"width": width, "height": 850})
    for _ in range(2):
        page.click("#theme")
        for tab in ("look", "classes", "objects", "learn", "export"):
            page.click(f"[role=tab][data-tab={tab}]")
            wide, pane = page.evaluate(
                "() => [document.documentElement.scrollWidth, document.querySelector('.pane').getBoundingClientRect().height]"
            )
            assert wide <= width and pane > 200
            inside = page.evaluate(
                "() => { const a = document.querySelector('aside'); return a.scrollWidth - a.clientWidth; }"
            )
            assert inside <= 1
    grounds = [page.evaluate("getComputedStyle(document.body).backgroundColor")]
    page.click("#theme")
    grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


def test_a_purpose_is_chosen_by_a_plain_name(deep):
    page = deep.page
    page.click("[role=tab][data-tab=learn]")
    deep.until("state.methods.length > 0", 60)
    assert not page.locator("#method").is_visible()
    page.select_option("#purpose", "bright")
    page.click("summary >> text=Expert")
    assert page.input_value("#method") == "objects"
    page.select_option("#purpose", "plain")
    page.click("#start")
    deep.until(f"state.runs.get('002')?.state === 'done' && scene.seg?.run === '002' && {FIRST}", 120)
    assert deep.get("state.runs.get('002').method") == "threshold"
