"""The first page in a real browser: tiles of quick segmentations; a click on one makes its method segment the pictures."""

from studio_hand import FIRST, Hand, marks

pytestmark = marks


def test_a_click_on_a_tile_makes_it_the_method(browser, studio, photo):
    hand = Hand(browser, studio.url)
    page = hand.page
    hand.until(FIRST)
    assert hand.get("state.tab") == "look"
    hand.until("state.look.total > 0 && state.look.tiles.length === state.look.total && !state.look.working", 300)
    tiles = hand.get(
        "state.look.tiles.map(({ method, preset, error, pictures }) => [method, preset, error, pictures.length])"
    )
    assert {method for method, *_ in tiles} >= {"contours", "kmeans", "threshold"}
    assert all(count == 1 or error for *_, error, count in tiles)
    assert page.locator("studio-look .tile img").count() == sum(count for *_, count in tiles)
    page.click("studio-look .tile[data-method=contours][data-preset=coarse]")
    hand.until(
        f"state.runs.get('002')?.state === 'done' && state.run === '002' && scene.seg?.run === '002' && {FIRST}", 200
    )
    assert hand.get("state.runs.get('002').method") == "contours" and hand.get("state.tab") == "classes"
    page.click("[role=tab][data-tab=look]")
    assert "--method contours --preset coarse" in page.inner_text("studio-look pre")
    assert hand.faults == []
    page.close()
