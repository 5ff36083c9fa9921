"""Folders of the studio: what is in them, and pictures that are added from them. Places are named without the paths of the machine."""

from pathlib import Path
from typing import Any

from selfseg.apps.studio.project import PROJECT, Project
from selfseg.apps.studio.security import confine
from selfseg.core.errors import InputError
from selfseg.read.formats import format_of, suffix_of

MOST_ENTRIES = 2000
"""Entries of one folder that are listed."""


def homes(project: Project) -> dict[str, Path]:
    """Return the folders that the studio was given, each by a name of its own: that of the folder, with a number if another has it."""
    found: dict[str, Path] = {}
    for root in dict.fromkeys(path.resolve() for path in project.roots if path.is_dir()):
        name, number = root.name or "root", 2
        while name in found:
            name, number = f"{root.name or 'root'} {number}", number + 1
        found[name] = root
    return found


def find_place(project: Project, place: str) -> Path:
    """Return the path of ``FOLDER/further/down`` below one of `homes`, or of a path inside them; InputError if it leads elsewhere."""
    known = homes(project)
    first, _, rest = place.partition("/")
    if first in known:
        return confine(known[first] / rest, [known[first]])
    return confine(place, [*known.values(), project.folder])


def list_place(project: Project, place: str) -> dict[str, Any]:
    """Return what a place holds: folders and pictures, each with its name and its place; an empty place is the list of `homes`.

    Hidden entries, projects of the studio and files of no known format are left out. ``more`` is the number of entries beyond
    `MOST_ENTRIES`. InputError if it is no folder, or cannot be listed.
    """
    if not place:
        return {
            "place": "",
            "folders": [{"name": name, "place": name} for name in homes(project)],
            "pictures": [],
            "more": 0,
        }
    folder = find_place(project, place)
    try:
        entries = sorted(
            (one for one in folder.iterdir() if not one.name.startswith(".")), key=lambda one: one.name.lower()
        )
    except OSError as error:
        raise InputError(
            folder, expected="a folder that can be listed", got=error.strerror or str(error), fix="choose another"
        ) from error
    folders: list[dict[str, str]] = []
    pictures: list[dict[str, str]] = []
    for entry in entries[:MOST_ENTRIES]:
        row = {"name": entry.name, "place": f"{place}/{entry.name}"}
        if entry.is_dir() and suffix_of(entry) is None:
            folders += [row] if not (entry / PROJECT).is_file() else []
        elif entry.is_dir() or format_of(entry) is not None:
            pictures.append(row)
    return {"place": place, "folders": folders, "pictures": pictures, "more": max(0, len(entries) - MOST_ENTRIES)}


def add_places(project: Project, places: list[str]) -> int:
    """Add pictures, or folders with all their pictures, to a project; return how many pictures it has more.

    InputError if a place is not there, or holds no picture: then nothing is added.
    """
    before, inputs = len(project.sources()), list(project.inputs)
    paths = [str(find_place(project, place)) for place in places]
    project.inputs = list(dict.fromkeys([*inputs, *paths]))
    project.refresh()
    try:
        found = len(project.sources()) - before
    except InputError:
        project.inputs = inputs
        project.refresh()
        raise
    project.save()
    return found
