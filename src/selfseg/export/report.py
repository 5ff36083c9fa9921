"""``report.html``: one file that shows what was done, opens from disk with the network off, and can be mailed."""

import base64
import hashlib
from html import escape
from importlib import resources
from pathlib import Path

from selfseg.core.files import write_text
from selfseg.export._report_curves import curve_section
from selfseg.export._report_data import Report, ReportImage
from selfseg.export._report_pictures import image_section, thumbnail
from selfseg.export._report_tables import class_section, config_section, failure_section, headline, run_section

__all__ = ["Report", "ReportImage", "report_html", "thumbnail", "write_report"]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{facts}</header>
<main>
{body}</main>
<footer>Made by selfseg. This file holds all that it shows and loads nothing from elsewhere.</footer>
<script>{script}</script>
</body>
</html>
"""

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
    "base-uri 'none'; form-action 'none'"
)
"""What the browser may load: nothing from anywhere. The one script it may run is ours, named by its hash."""


def write_report(path: Path | str, report: Report) -> None:
    """Write a report as one self-contained HTML file.

    Parameters
    ----------
    path
        File to write: ``OUT/report.html``. Links of images are relative to it.
    report
        What it shows. Equal reports give equal bytes.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_text(path, report_html(report))


def report_html(report: Report) -> str:
    """Return the page that `write_report` writes. Names, messages and values from outside are escaped."""
    parts = resources.files("selfseg.export")
    style = parts.joinpath("report.css").read_text(encoding="utf-8")
    script = parts.joinpath("report.js").read_text(encoding="utf-8") if report.images else ""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    sections = (
        failure_section(report.failures),
        image_section(report.images, report.table) if report.images else "",
        class_section(report.table),
        curve_section(report.curves),
        config_section(report.config, report.defaults),
        run_section(report.run),
    )
    return PAGE.format(
        policy=POLICY.format(digest=digest),
        title=escape(report.title),
        style=style,
        facts=headline(report.facts),
        body="".join(sections),
        script=script,
    )
