"""What a person sees first: a quick segmentation, or the model that was given, applied."""

from dataclasses import replace

from selfseg.apps.studio.project import RUNS, Project
from selfseg.apps.studio.runs import Run, Runs
from selfseg.apps.studio.spec import Spec

PREPARE = "size=1600,range"
"""Pictures that are larger are looked at smaller first: what is quick is seen first, and other runs can take all pixels."""
OTHERWISE = "cells"
"""Preset for pictures in which the default finds nothing but one class: many small things on a plain ground."""


def start_first_look(project: Project) -> Run | None:
    """Start the first run of a project that has none yet; None if it has one, or no picture.

    It is started before the server is imported: the process needs some seconds, and those are all that one waits for.
    """
    runs = Runs(project.folder / RUNS)
    if runs.all() or not project.sources():
        return None
    inputs = tuple(str(source.path) for source in project.sources())
    spec = Spec("first look", prepare=PREPARE, otherwise=OTHERWISE, inputs=inputs, axes=project.axes)
    if project.models:  # it has a preparation of its own
        spec = replace(spec, name=project.models[0].name, model=str(project.models[0]), prepare=None, otherwise=None)
    run = runs.create(spec)
    run.start()
    return run
