"""A page that holds all it shows: opens from disk with the network off, and can be mailed."""

import base64
import hashlib
from html import escape
from importlib import resources

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


def page(title: str, facts: str, body: str, script: str = "", style: str = "") -> str:
    """Return a whole page.

    Parameters
    ----------
    title
        Title and heading, not yet escaped.
    facts, body
        HTML below the heading, and of the rest.
    script
        The one script that it may run; empty = none.
    style
        CSS beside that of every report.
    """
    shared = resources.files("selfseg.export").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return PAGE.format(
        policy=POLICY.format(digest=digest),
        title=escape(title),
        style=shared + style,
        facts=facts,
        body=body,
        script=script,
    )
