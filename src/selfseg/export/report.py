"""``report.html``: one file that shows what was done, opens from disk with the network off, and can be mailed."""

from importlib import resources
from pathlib import Path

from selfseg.core.files import write_text
from selfseg.export._report_curves import curve_section
from selfseg.export._report_data import Report, ReportImage
from selfseg.export._report_learning import learning_section
from selfseg.export._report_pictures import image_section, thumbnail
from selfseg.export._report_tables import class_section, config_section, failure_section, headline, run_section
from selfseg.export.page import page

__all__ = ["Report", "ReportImage", "report_html", "thumbnail", "write_report"]


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
    script = ""
    if report.images:
        script = resources.files("selfseg.export").joinpath("report.js").read_text(encoding="utf-8")
    sections = (
        failure_section(report.failures),
        image_section(report.images, report.table) if report.images else "",
        class_section(report.table),
        curve_section(report.curves),
        learning_section(report.pictures),
        config_section(report.config, report.defaults),
        run_section(report.run),
    )
    return page(report.title, headline(report.facts), "".join(sections), script)
