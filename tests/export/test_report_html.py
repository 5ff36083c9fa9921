"""The report: one file, well formed, loading nothing, escaping everything, with the right figures in it."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.export.report import (
    MOST_SHOWN,
    PIXEL_BUDGET,
    Report,
    ReportImage,
    data_uri,
    report_html,
    thumbnail,
    ticks,
    write_report,
)

EVIL = "<script>alert('x')</script>\"&"
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Checks that tags close in order; collects tags with their attributes, and the text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _report(n=2, **changes):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    labels = np.zeros((30, 40, 4), np.uint8)
    labels[:, 20:] = (230, 159, 0, 255)
    table = ClassTable(
        (
            SegmentClass(1, EVIL, (230, 159, 0, 255), 0.6, 0.1, (0,)),
            SegmentClass(2, "sea", (0, 0, 90, 255), 0.4, 0.7, (1,)),
        )
    )
    values = {
        "title": f"Title {EVIL}",
        "facts": {"method": EVIL, "images": str(n)},
        "images": [
            ReportImage(
                f"{i}{EVIL}", photo, photo, labels, {1: 0.5, 2: 0.03, 7: 0.0004}, 1.25, EVIL, f"overlay/{EVIL} {i}.png"
            )
            for i in range(n)
        ],
        "table": table,
        "curves": {
            EVIL: [(0, 2.0), (1, 1.0)],
            "classes": [(0, 9.0), (1, 4.0)],
            "lost": [(0, float("nan"))],
            "none": [],
        },
        "config": {"alpha": 0.5, "beta": {"x": None, "y": EVIL}, "same": True},
        "defaults": {"alpha": 1.0, "beta": {"x": None, "y": "y"}, "same": True},
        "run": {"inputs": EVIL},
        "failures": [(EVIL, f"failed: {EVIL}")],
    }
    return Report(**{**values, **changes})


def test_it_parses_and_everything_is_escaped():
    html = report_html(_report())
    page = Page(html)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert scripts == [{}]
    assert "<script>alert" not in html
    assert page.text.count(EVIL) >= 8
    assert not [name for tag, attrs in page.tags for name in attrs if name.startswith("on")]


def test_it_loads_nothing():
    html = report_html(_report())
    page = Page(html)
    for tag, attrs in page.tags:
        for name in ("src", "srcset", "data", "poster"):
            assert attrs.get(name, "data:").startswith("data:"), tag
        if tag == "link":
            assert attrs["href"] == "data:,"
        if tag == "a":
            assert re.fullmatch(r"overlay/[A-Za-z0-9%./_-]+", attrs["href"])
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html


def test_the_browser_is_told_to_run_our_script_alone():
    html = report_html(_report())
    page = Page(html)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_pictures_have_sizes_and_words():
    page = Page(report_html(_report(n=1)))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert [(a["width"], a["height"]) for a in images] == [("40", "30")] * 3
    assert all(EVIL in a["alt"] for a in images)
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if attrs.get("role") == "img")


def test_figures_are_named():
    page = Page(report_html(_report(n=1)))
    for words in ("60 %", "3.0 %", "under 0.1 %", "class 7", "1.25 s", "1 input failed", "no finite value in 1 steps"):
        assert words in page.text
    assert "2 of 4 options differ" in page.text
    assert [tag for tag, attrs in page.tags if tag == "tr" and attrs.get("class") == "changed"] == ["tr", "tr"]


def test_an_empty_report_is_a_page():
    page = Page(report_html(Report("nothing done")))
    assert not [tag for tag, _ in page.tags if tag in ("section", "img", "table")]
    assert "nothing done" in page.text


def test_many_images_stay_light_and_the_rest_are_links():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (150, 400, 3), dtype=np.uint8)
    images = [ReportImage(f"n{i}", photo, link=f"overlay/n{i}.png") for i in range(MOST_SHOWN + 5)]
    page = Page(report_html(Report("many", images=images)))
    shown = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(shown) == MOST_SHOWN
    assert sum(int(a["width"]) * int(a["height"]) for a in shown) <= PIXEL_BUDGET
    assert "5 more" in page.text
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert sorted(links) == sorted(image.link for image in images)


def test_equal_reports_give_equal_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, _report())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def _decoded(uri):
    return Picture.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


@pytest.mark.parametrize("n_colours", [1, 2, 255, 300])
def test_label_pictures_keep_their_exact_colours(n_colours):
    colours = np.random.default_rng(0).integers(0, 256, (n_colours, 4), dtype=np.uint8)
    colours[0, 3] = 0
    picture = colours[np.arange(1200).reshape(30, 40) % n_colours]
    np.testing.assert_array_equal(np.array(_decoded(data_uri(picture, labels=True)).convert("RGBA")), picture)


def test_photographs_are_near_and_grey_ones_work():
    ramp = np.broadcast_to(np.arange(0, 240, 6, dtype=np.uint8), (30, 40))
    for picture in (ramp, np.stack([ramp] * 3, axis=-1)):
        found = _decoded(data_uri(picture))
        assert found.format == "JPEG"
        assert np.abs(np.array(found, int) - picture).max() <= 4


def test_thumbnails():
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 1::2] = 200
    small = thumbnail(picture, 50)
    assert small.shape == (25, 50, 3)
    assert np.unique(small).tolist() == [100]
    assert set(np.unique(thumbnail(picture, 50, labels=True))) <= {0, 200}
    assert thumbnail(picture, 200) is picture
    assert thumbnail(np.zeros((1000, 1), np.uint8), 10).shape == (10, 1)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 10, [0, 5, 10]), (0, 1, [0, 0.5, 1]), (-0.3, 2.1, [0, 1, 2]), (0, 300, [0, 100, 200, 300]), (5, 5, [5])],
)
def test_ticks_are_round(low, high, wanted):
    assert ticks(low, high) == pytest.approx(wanted)


def test_curves_lie_in_their_panel_with_gaps_where_nothing_is():
    values = [3.0, float("inf"), 2.0, 1.0]
    html = report_html(Report("c", curves={"loss": list(enumerate(values))}))
    line = re.search(r'<path class="line" d="([^"]*)"', html).group(1)
    points = [tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d.]+ [\d.]+)", line)]
    assert line.count("M") == 2
    assert len(points) == 3
    assert all(0 <= x <= 340 and 0 <= y <= 190 for x, y in points)
    assert points[0][1] < points[1][1] < points[2][1]
    assert "1 not finite" in html


def test_long_curves_keep_their_spikes():
    values = np.zeros(100_000)
    values[61_803] = 7.5
    html = report_html(Report("c", curves={"loss": [*enumerate(values.tolist()), (100_000, 0.25)]}))
    assert len(html) < 60_000
    raw = re.search(r'<path class="raw" d="([^"]*)"', html).group(1)
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", raw)]
    assert min(heights) < 20
    assert max(heights) > 140
