"""The studio as a person feels it: from the command to the first segmentation on the screen, the slider, and 20 megapixels.

    python benchmarks/speed/studio.py [--repeats 3]

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


def open_studio(browser, picture: Path) -> tuple[subprocess.Popen, Page, float, float]:
    """Start the studio on a picture; return it, its page, and the seconds until a first picture of the classes and until
    the segmentation with its tree is on the screen."""
    begun = time.monotonic()
    words = [sys.executable, "-m", "selfseg", "studio", str(picture), "--no-browser"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    page = browser.new_page(viewport={"width": 1360, "height": 850})
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


def show(name: str, values: list[float], unit: str) -> None:
    spread = f"{min(values):.3g} to {max(values):.3g}"
    print(f"{name:<58} {statistics.median(values):8.3g} {unit:<3} ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=OPTIONS)
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
