"""``report.html`` of a benchmark: the table, plots, contact sheets, what failed, and how to make it again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources

from selfseg.benchmark.columns import Column
from selfseg.benchmark.plots import Series, plot
from selfseg.benchmark.sheets import Sheet
from selfseg.benchmark.standings import Standing
from selfseg.benchmark.tables import ORACLE_NOTE, heading, is_oracle, shown_columns, table_rows, written
from selfseg.export._report_pictures import data_uri
from selfseg.export._report_tables import failure_section, headline, run_section
from selfseg.export.page import page


@dataclass(frozen=True)
class BenchmarkReport:
    """What the page shows.

    Attributes
    ----------
    title
        Heading.
    facts
        Headline facts.
    standings
        The contenders.
    columns
        Columns of the table; the first is the main score.
    wanted
        Images that were asked for.
    sheets
        Contact sheets by the title of the contender.
    run
        Facts of the run.
    failures
        Contender and image, and why.
    """

    title: str
    facts: Mapping[str, str]
    standings: Sequence[Standing]
    columns: Sequence[Column]
    wanted: int
    sheets: Mapping[str, Sheet] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()


def benchmark_html(report: BenchmarkReport) -> str:
    """Return the page."""
    style = resources.files("selfseg.benchmark").joinpath("benchmark.css").read_text(encoding="utf-8")
    sections = (
        failure_section(report.failures),
        table_section(report),
        plot_section(report),
        sheet_section(report),
        run_section(report.run),
    )
    return page(report.title, headline(report.facts), "".join(sections), style=style)


def table_section(report: BenchmarkReport) -> str:
    """Return the table with what each column means, oracles apart by their shade."""
    columns = shown_columns(report.standings, report.columns)
    head = "".join(
        f'<th scope="col" class="number{" oracle" if is_oracle(c) else ""}" title="{escape(c.meaning)}">'
        f"{escape(heading(c))}</th>"
        for c in columns
    )
    body = []
    for one, cells in zip(report.standings, table_rows(report.standings, columns, report.wanted), strict=True):
        name = f'<th scope="row" title="{escape(one.contender.describe())}">{escape(cells[0][0])}</th>'
        values = "".join(
            f'<td class="number{" oracle" if is_oracle(c) else ""}{" best" if best else ""}">{escape(text)}</td>'
            for c, (text, best) in zip(columns, cells[1:], strict=True)
        )
        body.append(f"<tr{' class=ours' if one.contender.is_method else ''}>{name}{values}</tr>\n")
    legend = "".join(f"<dt>{escape(heading(c))}</dt><dd>{escape(c.meaning)}</dd>" for c in columns)
    table = f'<table class="standings"><thead><tr><th></th>{head}</tr></thead><tbody>\n{"".join(body)}</tbody></table>'
    note = f'<p class="quiet">{escape(ORACLE_NOTE)} ± is the standard deviation over seeds.</p>'
    details = f"<details><summary>What the columns mean</summary><dl class=legend-list>{legend}</dl></details>"
    return f'<section id="table">\n<h2>Standings</h2>\n<div class="wide">{table}</div>\n{note}\n{details}\n</section>\n'


def plot_section(report: BenchmarkReport) -> str:
    """Return the plots: covering over scale, main score against time."""
    main = report.columns[0]
    curves, points = [], []
    for number, one in enumerate(report.standings):
        name, ours = one.contender.title, one.contender.is_method
        seconds, score = one.values["seconds"], one.values.get(main.key, math.nan)
        if len(one.curve) > 1:
            curves.append(Series(name, one.curve, number, ours))
        if seconds > 0 and not math.isnan(score):
            points.append(Series(name, [(seconds, score)], number, ours))
    over_scale = plot(curves, "mean number of regions", "covering")
    against_time = plot(points, "median seconds an image", main.head)
    parts = []
    if over_scale:
        words = "The same scale (threshold or setting) for all images. The peak of a curve is chosen by the truth."
        parts.append(f'<h3>Covering over scale</h3><p class="quiet">{words}</p>{over_scale}')
    if against_time:
        words = f"{main.meaning}. Bold: methods of selfseg; the others are baselines."
        parts.append(f'<h3>{escape(main.head)} against time</h3><p class="quiet">{escape(words)}</p>{against_time}')
    return f'<section id="plots">\n<h2>Plots</h2>\n{"".join(parts)}\n</section>\n' if parts else ""


def sheet_section(report: BenchmarkReport) -> str:
    """Return the contact sheets."""
    if not report.sheets:
        return ""
    main = report.columns[0]
    figures = []
    for title, sheet in report.sheets.items():
        places = ("best", "median", "worst") if len(sheet.names) == 3 else ("image",) * len(sheet.names)
        ranks = "; ".join(
            f"{word}: {name} ({written(score, main.digits)})"
            for word, name, score in zip(places, sheet.names, sheet.scores, strict=True)
        )
        height, width = sheet.picture.shape[:2]
        picture = (
            f'<img src="{data_uri(sheet.picture)}" width="{width}" height="{height}" '
            f'alt="{escape(f"{title}, {ranks}")}" loading="lazy">'
        )
        caption = f'<figcaption><h3>{escape(title)}</h3><span class="quiet">{escape(ranks)}</span></figcaption>'
        figures.append(f'<figure class="sheet">{caption}\n{picture}</figure>\n')
    words = (
        f"From above: the best, the median and the worst image by {main.head}; image, labels, one annotator's truth."
    )
    return (
        f'<section id="sheets">\n<h2>Best, median, worst</h2>\n<p class="quiet">{escape(words)}</p>\n'
        f'<div class="sheets">\n{"".join(figures)}</div>\n</section>\n'
    )
