"""The tables of a report: facts, classes, configuration, failures. Everything that comes from outside is escaped."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from selfseg.core.classes import ClassTable
from selfseg.core.palette import relative_luminance

DARK_TEXT_ABOVE = 0.18
"""Luminance above which black text on a colour has the higher contrast (WCAG 2.2: both have 4.6 : 1 here)."""

NOTHING = object()


def headline(facts: Mapping[str, str]) -> str:
    """Return the headline facts as a row of short pairs."""
    pairs = "".join(
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd></div>" for key, value in facts.items()
    )
    return f'<dl class="facts">{pairs}</dl>\n' if pairs else ""


def failure_section(failures: Sequence[tuple[str, str]]) -> str:
    """Return the inputs that failed, each with its reason."""
    if not failures:
        return ""
    rows = "".join(f"<li><b>{escape(name)}</b> {escape(message)}</li>" for name, message in failures)
    count = "1 input failed" if len(failures) == 1 else f"{len(failures)} inputs failed"
    return f'<section id="failures" class="failures">\n<h2>{count}</h2>\n<ul>{rows}</ul>\n</section>\n'


def class_section(table: ClassTable) -> str:
    """Return the class table: colour, id, name, share of the training pixels as a bar, mean intensity."""
    if not table.classes:
        return ""
    largest = max(item.area_share for item in table.classes) or 1.0
    rows = "".join(
        f"<tr><td>{swatch(item.id, item.rgba)}</td><th scope=row>{escape(item.name)}</th>"
        f'<td class="share"><span><i style="width:{100 * item.area_share / largest:.2f}%;'
        f'background:{_css(item.rgba)}"></i></span></td>'
        f'<td class="number">{percent(item.area_share)}</td><td class="number">{item.intensity:.3g}</td></tr>\n'
        for item in table.classes
    )
    head = (
        "<tr><th scope=col>id</th><th scope=col>name</th><th scope=col colspan=2>share of the training pixels</th>"
        "<th scope=col class=number>mean intensity</th></tr>"
    )
    explained = (
        '<p class="quiet">Ids go from dark to bright; intensity is that of the prepared images. 0 means ignored.</p>'
    )
    body = f'<div class="wide"><table class="classes"><thead>{head}</thead><tbody>\n{rows}</tbody></table></div>'
    return f'<section id="classes">\n<h2>Classes</h2>\n{body}\n{explained}\n</section>\n'


def config_section(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return every option with its value; those that differ from the default are marked and show it."""
    if not config:
        return ""
    usual = dict(_flat(defaults))
    rows, n_changed = [], 0
    for name, value in _flat(config):
        known = usual.get(name, NOTHING)
        changed = known is not NOTHING and known != value
        n_changed += changed
        mark = '<span class="mark">changed</span>' if changed else ""
        rows.append(
            f"<tr{' class=changed' if changed else ''}><th scope=row>{escape(name)}</th>"
            f"<td>{_written(value)} {mark}</td>"
            f"<td class=quiet>{_written(known) if known is not NOTHING else ''}</td></tr>\n"
        )
    count = f"{n_changed} of {len(rows)} options differ from the default." if defaults else f"{len(rows)} options."
    head = "<tr><th scope=col>option</th><th scope=col>value</th><th scope=col>default</th></tr>"
    body = (
        f'<div class="wide"><table class="config"><thead>{head}</thead><tbody>\n{"".join(rows)}</tbody></table></div>'
    )
    return f'<section id="config">\n<h2>Configuration</h2>\n<p class="quiet">{count}</p>\n{body}\n</section>\n'


def run_section(run: Mapping[str, str]) -> str:
    """Return the facts of the run as a table of two columns."""
    if not run:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>\n" for key, value in run.items()
    )
    body = f'<div class="wide"><table class="run"><tbody>\n{rows}</tbody></table></div>'
    return f'<section id="run">\n<h2>Run</h2>\n{body}\n</section>\n'


def swatch(label: int, rgba: Sequence[int]) -> str:
    """Return the id on its colour, in black or white, whichever is easier to read."""
    text = "#000" if relative_luminance(tuple(rgba)) > DARK_TEXT_ABOVE else "#fff"
    return f'<span class="swatch" style="background:{_css(rgba)};color:{text}">{label}</span>'


def percent(share: float) -> str:
    """Return a share 0-1 in words: ``"34 %"``, ``"0.4 %"``, ``"under 0.1 %"``."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _css(rgba: Sequence[int]) -> str:
    return f"rgb({int(rgba[0])},{int(rgba[1])},{int(rgba[2])})"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _written(value: Any) -> str:
    """Return a value as people write it, escaped."""
    if value is None:
        return '<span class="quiet">not set</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return escape(f"{value:.6g}")
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
