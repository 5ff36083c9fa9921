"""Make what is generated in the documentation: plots of the benchmark's tables, contents of EXPERIMENTS.md. `make generated`."""

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
EXPERIMENTS = DOCS.parent / "EXPERIMENTS.md"
BENCHMARK, QUALITY = DOCS / "benchmark.md", DOCS / "explanation" / "quality.md"

PLOTS: dict[str, tuple[Path, str, tuple[str, ...]]] = {
    "photographs": (BENCHMARK, "Photographs", ("covering, user's output",)),
    "objects": (BENCHMARK, "Objects", ("Dice", "AP50")),
    "membranes": (BENCHMARK, "Membranes", ("V_rand",)),
    "lesions": (BENCHMARK, "Lesions", ("Dice", "F1 of lesions")),
    "superpixels": (BENCHMARK, "Superpixels", ("achievable accuracy",)),
    "speed": (BENCHMARK, "Speed", ("times as fast",)),
    "scale": (BENCHMARK, "Scale", ("peak, GB",)),
    "quality": (QUALITY, "How good, on what", ("user gets", "best baseline")),
}
"""Plots in `docs/plots`, by name: page, heading, and the columns of its first table whose first numbers are the bars."""

COLOURS = ("#3f51b5", "#b0b7de")
ROW, BAR, LEFT, WIDTH = 34, 11, 290, 640
MOST_SPREAD = 50
"""Bars are logarithmic where the largest is more than this times the smallest."""

NUMBER = re.compile(r"(?<![\w.])\d*\.?\d+(?![\w])")


def read_table(page: Path, heading: str) -> tuple[list[str], list[list[str]]]:
    """Return column names and rows of the first table below a heading."""
    text = page.read_text(encoding="utf-8")
    lines = text[re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE).end() :].splitlines()  # type: ignore[union-attr]
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([re.sub(r"\*\*|`", "", cell).strip() for cell in line.strip("|").split("|")])
    return rows[0], rows[2:]


def bars(page: Path, heading: str, columns: Sequence[str]) -> str:
    """Return a bar chart of some columns of a table as SVG; rows without a number are left out."""
    names, rows = read_table(page, heading)
    places = [names.index(column) for column in columns]
    values = {}
    for row in rows:
        found = [NUMBER.search(row[place].replace(",", "")) for place in places]
        if all(found):
            values[row[0]] = [match[0] for match in found if match]
    most = max(float(one) for several in values.values() for one in several)
    least = min(float(one) for several in values.values() for one in several)
    most, spread = (1.0 if 0.3 < most <= 1 else most), most / least > MOST_SPREAD
    height = 26 + ROW * len(values) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 60} {height}" width="{WIDTH + 60}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#555">'
    ]
    for number, column in enumerate(columns):
        x = LEFT + 170 * number
        parts.append(f'<rect x="{x}" y="6" width="11" height="11" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 16}" y="16">{escape(column)}{" (logarithmic)" * spread}</text>')
    for index, (label, numbers) in enumerate(values.items()):
        y = 26 + ROW * index
        short = label if len(label) <= 46 else label[:45] + "…"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 18}" text-anchor="end">{escape(short)}</text>')
        for number, value in enumerate(numbers):
            top = y + 4 + (BAR + 2) * number + (BAR // 2 if len(columns) == 1 else 0)
            share = math.log(float(value) / least * 2) / math.log(most / least * 2) if spread else float(value) / most
            length = round((WIDTH - LEFT) * share, 1)
            parts.append(f'<rect x="{LEFT}" y="{top}" width="{length}" height="{BAR}" fill="{COLOURS[number]}"/>')
            parts.append(f'<text x="{LEFT + length + 5}" y="{top + 10}">{value}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def sorted_experiments(text: str) -> str:
    """Return EXPERIMENTS.md with its entries sorted by date, newest first, below a table of contents."""
    head, *entries = re.split(r"^(?=## \d{4}-)", text, flags=re.MULTILINE)
    head = head.split("\n- [")[0].rstrip("\n")
    entries = sorted((entry.rstrip("\n") + "\n" for entry in entries), key=lambda entry: entry[3:13], reverse=True)
    titles = [entry.splitlines()[0][3:] for entry in entries]
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    links = [f"- [{title}](#{anchor})" for title, anchor in zip(titles, anchors, strict=True)]
    return head + "\n\n" + "\n".join(links) + "\n\n" + "\n".join(entries)


def generated() -> dict[Path, str]:
    """Return the content of every generated file."""
    files = {DOCS / "plots" / f"{name}.svg": bars(*source) for name, source in PLOTS.items()}
    return files | {EXPERIMENTS: sorted_experiments(EXPERIMENTS.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    (DOCS / "plots").mkdir(exist_ok=True)
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")
