"""What a benchmark leaves behind: tables, plots, contact sheets, ``report.html``."""

import math
from collections.abc import Sequence
from typing import Any

from selfseg.benchmark.columns import Column, columns_of
from selfseg.benchmark.facts import run_facts
from selfseg.benchmark.jobs import BenchmarkJob
from selfseg.benchmark.report import BenchmarkReport, benchmark_html
from selfseg.benchmark.runner import BenchmarkPlan, Rows
from selfseg.benchmark.sheets import Sheet, make_sheet
from selfseg.benchmark.standings import Standing, standings
from selfseg.benchmark.tables import as_csv, as_markdown, images_csv, table_json
from selfseg.core.errors import InputError
from selfseg.core.files import write_json, write_text
from selfseg.export.overlay import write_picture
from selfseg.read.datasets import find_dataset


def write_outputs(plan: BenchmarkPlan, result: Rows, command: str) -> tuple[list[Standing], tuple[Column, ...]]:
    """Write ``table.md``, ``table.csv``, ``images.csv``, ``results.json``, ``sheets/`` and ``report.html``.

    Parameters
    ----------
    plan, result
        What was asked for and what came.
    command
        The command line, to be repeated.

    Returns
    -------
    standings, columns
        What the tables show.

    Raises
    ------
    InputError
        If there is no row at all: the first failure.
    """
    if not result.rows:
        raise InputError(result.failures[0][1] if result.failures else "benchmark: no image was asked for")
    out, dataset = plan.place.out, find_dataset(plan.place.dataset)
    columns = columns_of(dataset.task, plan.curve)
    main = columns[0]
    found = standings(result.rows, main.key)
    found.sort(key=lambda one: -main.sign * one.values.get(main.key, -math.inf))
    wanted = len(plan.items())
    sheets = _sheets(plan, found, columns[0].sign)
    facts = run_facts()
    write_text(out / "table.md", as_markdown(found, columns, wanted))
    write_text(out / "table.csv", as_csv(found))
    write_text(out / "images.csv", images_csv(result.rows, columns))
    write_json(out / "results.json", _results(plan, result, found, facts, command))
    for title, sheet in sheets.items():
        write_picture(out / "sheets" / f"{title}.png", sheet.picture)
    report = BenchmarkReport(
        f"{dataset.title}: {plan.place.split}",
        _headline(plan, wanted, facts),
        found,
        columns,
        wanted,
        sheets,
        {"command": command, **facts, "licence": dataset.licence, "please cite": dataset.citation},
        result.failures,
    )
    write_text(out / "report.html", benchmark_html(report))
    return found, columns


def _headline(plan: BenchmarkPlan, wanted: int, facts: dict[str, str]) -> dict[str, str]:
    learned = f"on {plan.train}" if plan.train else "on each image alone"
    return {
        "images": str(wanted),
        "seeds": ", ".join(map(str, plan.seeds)),
        "methods learn": learned,
        "commit": facts["commit"],
        "date": facts["date"],
    }


def _sheets(plan: BenchmarkPlan, found: Sequence[Standing], sign: int) -> dict[str, Sheet]:
    jobs: dict[Any, list[BenchmarkJob]] = {}
    for job in plan.jobs():
        if job.seed == plan.seeds[0]:
            jobs.setdefault(job.contender, []).append(job)
    made = {one.contender.title: make_sheet(one, jobs[one.contender], sign) for one in found}
    return {title: sheet for title, sheet in made.items() if sheet is not None}


def _results(
    plan: BenchmarkPlan, result: Rows, found: Sequence[Standing], facts: dict[str, str], command: str
) -> dict[str, Any]:
    return {
        "dataset": plan.place.dataset,
        "split": plan.place.split,
        "images": plan.items(),
        "seeds": list(plan.seeds),
        "train": plan.train,
        "command": command,
        "facts": facts,
        "standings": table_json(found),
        "failures": [{"what": what, "error": message} for what, message in result.failures],
    }
