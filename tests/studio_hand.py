"""A person at the studio's page: the system's Chromium, the server in a process of its own, and what tests do with them.

Its fixtures are in `conftest`.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

marks = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")]


class Server:
    """`selfseg studio` in a process of its own."""

    def __init__(self, *inputs):
        words = [sys.executable, "-m", "selfseg", "studio", *map(str, inputs), "--no-browser"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.url = re.search(r"http://\S+", line).group(0)

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Hand:
    """A person at the page."""

    def __init__(self, browser, url):
        self.page = browser.new_page(viewport={"width": 1360, "height": 850})
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda asked: self._ours(asked.url, url))
        self.page.goto(url)

    def _ours(self, asked, url):
        home = url.split("/?")[0]
        if not asked.startswith((home, home.replace("http", "ws"), "blob:", "data:")):
            self.faults.append(f"asked another machine: {asked}")

    def until(self, condition, seconds=120):
        """Wait for a condition over the page's state; the page's policy forbids waiting inside it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.page.evaluate(f"() => {{ const {{ state, scene }} = studio; return Boolean({condition}); }}"):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{condition}; notices: {self.page.inner_text('studio-notices')}")

    def get(self, expression):
        return self.page.evaluate(f"() => {{ const {{ state, scene }} = studio; return {expression}; }}")

    def expert(self):
        """Open what stands behind the purposes: method, preset, options."""
        self.page.click("[role=tab][data-tab=learn]")
        self.until("state.methods.length > 0")
        if not self.page.locator("#method").is_visible():
            self.page.click("summary >> text=Expert")

    def classes(self):
        return self.get("[...state.runs.get(state.run).classes].map(({ id, name }) => [id, name])")

    def place_of(self, label):
        """A point on the screen whose whole neighbourhood has this label, away from the bar at the foot."""
        script = """(label) => {
          const pane = document.querySelector("studio-panes").panes[0], box = pane.element.getBoundingClientRect();
          const labelAt = (x, y) => {
            const found = pane.probe(x, y);
            return found && found.leaf >= 0 ? pane.scene.seg.labels[found.leaf] : -1;
          };
          const around = [[0, 0], [4, 0], [-4, 0], [0, 4], [0, -4]];
          for (let y = 12; y < box.height - 90; y += 6)
            for (let x = 12; x < box.width - 12; x += 6)
              if (around.every(([a, b]) => labelAt(x + a, y + b) === label)) return [box.left + x, box.top + y];
          return null;
        }"""
        return self.page.evaluate(script, label)

    def shown_labels(self):
        """The label image as the page has it: its tile of leaves through its own table."""
        script = """() => {
          const pane = document.querySelector("studio-panes").panes[0], seg = pane.scene.seg;
          const ours = (key) => key.startsWith(`/tiles/leaves?run=${seg.run}&`) && key.includes("level=0&x=0&y=0");
          const key = [...pane.tiles.kept.keys()].find(ours);
          return [...pane.tiles.kept.get(key).data].map((leaf) => (leaf ? seg.labels[leaf - 1] : 0));
        }"""
        side = 256 + 2
        return np.array(self.page.evaluate(script)).reshape(side, side)[1:-1, 1:-1]


FIRST = """scene.seg?.labels && [...document.querySelector('studio-panes').panes[0].tiles.kept.keys()].some(
  (key) => key.startsWith(`/tiles/leaves?run=${scene.seg.run}`))"""
