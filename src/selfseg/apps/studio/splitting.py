"""Splitting one class: its leaves in all pictures of a run are clustered by what they look like."""

from typing import Any

from selfseg.apps.studio.project import Project
from selfseg.apps.studio.results import FACTS, StoredResult
from selfseg.apps.studio.runs import Run
from selfseg.apps.studio.states import edits_of, learned_table
from selfseg.core.errors import UsageError

MOST_IMAGES = 40
"""Pictures whose leaves are clustered."""


def find_split(project: Project, run: Run, source: int, n_parts: int) -> dict[str, Any]:
    """Return the operation that splits a class.

    Raises
    ------
    UsageError
        If there is no result yet, or the class cannot be split.
    """
    from selfseg.refine.edits import Split, split_class

    edits, table = edits_of(project, run), learned_table(run)
    folders = sorted(path.parent for path in (run.folder / "results").glob(f"**/t*/{FACTS}"))
    if table is None or not folders:
        raise UsageError("split", expected="a segmented picture", got="none yet", fix="wait for the run")
    images = [StoredResult(folder).leaves() for folder in folders[:MOST_IMAGES]]
    # An id that was ever used stays its own: undone merges must find it again.
    used = {row.id for row in table.classes}
    used |= {part for step in edits.steps if isinstance(step, Split) for part in step.parts}
    split = split_class(images, [edits.classes(leaves) for leaves in images], source, n_parts, sorted(used))
    return {"op": "split", "source": source, "parts": list(split.parts), "centres": [list(c) for c in split.centres]}
