"""The studio as a person feels it: from the command to the first segmentation on the screen, the slider, and 20 megapixels.

    python benchmarks/speed/studio.py [--repeats 3] [--only opening|work]

``work``: strokes on a megapixel, 2,025 counted objects, and the longest time for which they block the page.

Chromium without a graphics card draws in software, so frames are slower here than on most desks.
"""

import argparse
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from skimage import data

OPTIONS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

SHOWN = """() => {
  const { scene } = window.studio ?? {};
  const panes = document.querySelector("studio-panes")?.panes ?? [];
  const drawn = (key) => key.startsWith("/tiles/leaves");
  return Boolean(scene?.seg?.labels && panes[0] && [...panes[0].tiles.kept.keys()].some(drawn));
}"""

LOOKED = """() => Boolean(document.querySelector("studio-panes")?.panes?.[0]?.scene?.preview)"""

WATCH_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((one) => one.duration))).observe({ type: "longtask" });
"""

TO_SCREEN = """([y, x]) => {
  const pane = document.querySelector("studio-panes").panes[0], box = pane.element.getBoundingClientRect();
  const [left, top] = pane.transform.toScreen(x, y, pane.plane(), pane.width, pane.height);
  return [box.left + left, box.top + top];
}"""

TO_OTHER = """async ([name, text]) => {
  const begun = performance.now();
  document.querySelector(`studio-images [data-name=${name}]`).click();
  const number = document.querySelector("studio-objects .number");
  const there = () => number.textContent.startsWith(text) && studio.scene.name === name;
  for (let i = 0; i < 2000 && !there(); i++) await new Promise(requestAnimationFrame);
  return there() ? performance.now() - begun : NaN;
}"""

EMPTY = """async () => {
  const pane = document.querySelector("studio-panes").panes[0];
  const canvas = document.createElement("canvas");
  const { width, height } = pane.canvas;
  Object.assign(canvas, { width, height });
  canvas.style.cssText = `position: fixed; left: 0; top: 0; z-index: 99; width: ${width}px; height: ${height}px`;
  document.body.append(canvas);
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
  const times = [];
  let before = performance.now();
  for (let i = 0; i < 60; i++) {
    gl.clearColor(i / 60, 0.3, 0.3, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - before);
    before = performance.now();
  }
  canvas.remove();
  return times.slice(10);
}"""

PAN = """async () => {
  const pane = document.querySelector("studio-panes").panes[0];
  Object.assign(pane.transform, { zoom: 0.5, fitted: false });
  const times = [];
  let before = performance.now();
  for (let i = 0; i < 90; i++) {
    pane.transform.move(i % 40 < 20 ? -12 : 12, i % 30 < 15 ? -7 : 7, pane.plane());
    pane.transform.zoom *= i < 45 ? 1.03 : 0.97;
    pane.redraw();
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - before);
    before = performance.now();
  }
  return { frames: times, draw: pane.frameTimes.slice(-90) };
}"""


def until(page: Page, *conditions: str, seconds: float = 300) -> None:
    """Wait until one of the conditions holds; each look takes the page some time, so there are few."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(page.evaluate(condition) for condition in conditions):
            return
        time.sleep(0.03)
    raise TimeoutError(page.inner_text("body"))


def open_studio(browser, *inputs: Path, script: str = "") -> tuple[subprocess.Popen, Page, float, float]:
    """Start the studio on pictures, or on pictures and a model; return it, its page, and two times: the seconds until a first picture of
    the classes, and until the segmentation with its tree is on the screen."""
    begun = time.monotonic()
    words = [sys.executable, "-m", "selfseg", "studio", *map(str, inputs), "--no-browser"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    page = browser.new_page(viewport={"width": 1360, "height": 850})
    page.add_init_script(script)
    page.goto(re.search(r"http://\S+", server.stdout.readline()).group(0))
    until(page, LOOKED, SHOWN)
    looked = time.monotonic() - begun
    until(page, SHOWN)
    return server, page, looked, time.monotonic() - begun


def open_empty(browser) -> float:
    """Return the seconds that the browser takes to open a page with nothing on it."""
    begun = time.monotonic()
    page = browser.new_page(viewport={"width": 1360, "height": 850})
    page.goto("data:text/html,<title>empty</title>")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    page.close()
    return time.monotonic() - begun


def close(server: subprocess.Popen, page: Page) -> None:
    page.close()
    server.send_signal(signal.SIGINT)
    server.wait(30)


def large_picture(path: Path) -> None:
    """Write a photograph of 20 megapixels: the coffee cup of scikit-image, enlarged, with noise of its own size."""
    wide = np.asarray(Image.fromarray(data.coffee()).resize((5472, 3648), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, 6, wide.shape[:2])[..., None]
    Image.fromarray((wide + noise).clip(0, 255).astype(np.uint8)).save(path, compress_level=1)


def slide(page: Page) -> list[float]:
    """Pull the slider to and fro; return the milliseconds from hand to tables of each move."""
    box = page.locator("#level").bounding_box()
    page.mouse.move(box["x"] + 7, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(40):
        page.mouse.move(box["x"] + 7 + (box["width"] - 14) * (0.1 + 0.02 * step), box["y"] + box["height"] / 2)
    page.mouse.up()
    return page.evaluate("() => studio.scene.slideTimes.slice(-40)")


def write_discs(folder: Path) -> Path:
    """Write two pictures of one megapixel, with 2,025 bright discs and with 100."""
    folder.mkdir()
    y, x = np.mgrid[:1024, :1024]
    for name, pitch, radius in (("dense", 22, 7), ("sparse", 102, 30)):
        away = np.hypot(y % pitch - pitch / 2, x % pitch - pitch / 2)
        inside = (
            (away <= radius)
            & (y // pitch < 1024 // pitch - (pitch == 22))
            & (x // pitch < 1024 // pitch - (pitch == 22))
        )
        noise = np.random.default_rng(0).normal(0, 5, inside.shape)
        Image.fromarray((40 + 130 * inside + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def stroke(page: Page, label: int, points: list[tuple[float, float]]) -> None:
    """Draw a stroke of a class of the run that is shown."""
    count = page.evaluate("() => studio.answerTimes.length")
    page.select_option("studio-selection select", index=label)
    (first, *others) = [page.evaluate(TO_SCREEN, list(point)) for point in points]
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point, steps=8)
    page.mouse.up()
    until(
        page,
        f"() => studio.state.project.strokes.length >= 2 && studio.answerTimes.length > {count} && studio.state.answer.whole",
        "() => studio.state.project.strokes.length < 2",
        seconds=60,
    )


def measure_work(browser, folder: Path, repeats: int) -> None:
    """Print what a stroke and a count take on one megapixel."""
    discs, model = write_discs(folder), folder.with_name("model")
    words = [sys.executable, "-m", "selfseg", "fit", str(discs), "--method", "threshold", "-o", str(model), "-q"]
    subprocess.run(words, check=True)
    server, page, *_ = open_studio(browser, discs, model, script=WATCH_TASKS)
    page.click("[data-tool=scribble]")
    stroke(page, 1, [(500, 500), (520, 540)])
    stroke(page, 0, [(11, 11), (11, 11.5)])
    page.evaluate("() => { longTasks.length = 0; }")
    for number in range(3 * repeats):
        at = 60 + 40 * number
        stroke(page, number % 2, [(at, 200 + at / 3), (at + 5, 260 + at / 3)])
    times = page.evaluate("() => studio.answerTimes")
    show("1024 x 1024: a stroke, from the hand's rest to its first answer", times[-3 * repeats :], "ms")
    tasks = page.evaluate("() => longTasks")
    show("the page blocked meanwhile, tasks over 50 ms", tasks or [0.0], "ms")
    page.keyboard.press("Escape")
    page.click("[role=tab][data-tab=objects]")
    page.select_option("#count-kind", "components")
    page.click("#count")
    ready = "() => /objects/.test(document.querySelector('studio-objects .number')?.textContent)"
    until(page, ready)
    many = page.inner_text("studio-objects .number").split()[0]
    page.click("studio-images [data-name=sparse]")
    until(
        page, f"() => !document.querySelector('studio-objects .number').textContent.startsWith('{many}') && {ready[6:]}"
    )
    few = page.inner_text("studio-objects .number").split()[0]
    page.evaluate("() => { longTasks.length = 0; }")
    back = []
    for _ in range(repeats):
        back.append(page.evaluate(TO_OTHER, ["dense", many]))
        page.evaluate(TO_OTHER, ["sparse", few])
    show(f"{many} objects that are found: to the number and the table", back, "ms")
    show("the page blocked meanwhile, tasks over 50 ms", page.evaluate("() => longTasks") or [0.0], "ms")
    close(server, page)


def show(name: str, values: list[float], unit: str) -> None:
    spread = f"{min(values):.3g} to {max(values):.3g}"
    print(f"{name:<58} {statistics.median(values):8.3g} {unit:<3} ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("opening", "work"))
    options = parser.parse_args()
    repeats = options.repeats
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=OPTIONS)
        if options.only != "opening":
            measure_work(browser, Path(folder) / "discs", repeats)
        if options.only == "work":
            return
        photo, large = Path(folder) / "photo.png", Path(folder) / "large.png"
        Image.fromarray(data.astronaut()).save(photo)
        large_picture(large)
        show("floor: the browser opens an empty page", [open_empty(browser) for _ in range(max(3, repeats))], "s")
        seconds, moves = [], []
        for _ in range(repeats):
            shutil.rmtree(photo.with_suffix(".studio"), ignore_errors=True)
            server, page, _, taken = open_studio(browser, photo)
            seconds.append(taken)
            moves += slide(page)
            close(server, page)
        show("512 x 512: command to first segmentation on the screen", seconds, "s")
        show("512 x 512: slider, hand to tables", moves, "ms")
        server, page, looked, taken = open_studio(browser, large)
        show("5472 x 3648: command to a first picture of the classes", [looked], "s")
        show("5472 x 3648: command to first segmentation on the screen", [taken], "s")
        show("5472 x 3648: slider, hand to tables", slide(page), "ms")
        page.wait_for_timeout(1500)
        show("floor: clearing an empty canvas of the pane's size", page.evaluate(EMPTY), "ms")
        page.evaluate(PAN)  # tiles arrive
        found = page.evaluate(PAN)
        show("5472 x 3648: pan and zoom, time of the page for a frame", found["draw"], "ms")
        show("5472 x 3648: pan and zoom, between two frames", found["frames"], "ms")
        close(server, page)
        browser.close()


if __name__ == "__main__":
    main()
