"""What the progress bar says of time."""

import io

from rich.console import Console

from selfseg.apps.cli.app import Bar


def test_time_left_becomes_time_taken():
    bar, shown = Bar(), io.StringIO()
    bar.console = Console(file=shown, force_terminal=True, width=120)
    bar.start("learning", 2)
    bar.update(1, {"similarity": 0.5})
    bar._progress.refresh()
    assert "1/2" in shown.getvalue() and " left" in shown.getvalue() and " taken" not in shown.getvalue()
    before = len(shown.getvalue())
    bar.update(2, {"similarity": 0.25})
    bar.finish()
    last = shown.getvalue()[before:]
    assert "2/2" in last and " taken" in last and " left" not in last and "similarity 0.250" in last
