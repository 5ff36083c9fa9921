"""The process that learns and segments: the window's own would stand still, since compiled kernels do not let its thread run.

It gets a `Job`, and sends back what it does as tuples: ``("progress", task, done, total)``, ``("say", text)``,
``("preview", labels, step)``, ``("model", folder)``, ``("result", name, Segmented)``, and at last ``("done",)`` or ``("failed", text)``.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import SelfsegError
from selfseg.core.image import Image
from selfseg.refine.hierarchy import Hierarchy


@dataclass(frozen=True)
class Job:
    """Work for the process.

    Attributes
    ----------
    images
        Images by the names of their layers.
    model
        Folder of the model: it is read from there, or, with `learn`, written there.
    learn
        Arguments of `selfseg.Segmenter`: fit one to the first image before; None = do not.
    """

    images: Mapping[str, Image]
    model: Path
    learn: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Segmented:
    """A result as plain arrays, all that the window shows."""

    labels: NDArray[np.integer]
    table: ClassTable
    seconds: float
    objects: NDArray[np.integer] | None
    hierarchy: Hierarchy | None
    """The merge tree; None of a series."""


class Reporter:
    """A progress reporter that sends."""

    def __init__(self, pipe: Connection) -> None:
        self._send, self._task, self._total = pipe.send, "", 1

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Begin a task."""
        self._task, self._total = task, total
        self._send(("progress", task, done, total))

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Say how far it is."""
        self._send(("progress", self._task, done, self._total))

    def finish(self) -> None:
        """End the task."""

    def say(self, message: str) -> None:
        """Say a line."""
        self._send(("say", message))


def main() -> None:
    """Do a job: the place of the window and its key come through standard input, the job from there.

    Learning ends after its step once the window has sent anything more, and what is learned is used.
    """
    port, key = sys.stdin.readline().split()
    with Client(("127.0.0.1", int(port)), authkey=bytes.fromhex(key)) as pipe:
        do(pipe.recv(), pipe)


def do(job: Job, pipe: Connection) -> None:
    """Do a job, and say at last how it ended."""
    try:
        _work(job, pipe)
    except SelfsegError as error:
        pipe.send(("failed", str(error)))
    except Exception as error:  # noqa: BLE001 (the window shows whatever is wrong, and stays)
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
    else:
        pipe.send(("done",))


def _work(job: Job, pipe: Connection) -> None:
    from selfseg.learning.segmenter import Segmenter
    from selfseg.train.loop import Order

    reporter = Reporter(pipe)
    if job.learn is None:
        model = Segmenter.load(job.model)
    else:
        model = Segmenter(**job.learn)
        order = lambda: Order.FINISH if pipe.poll() else Order.GO  # noqa: E731
        preview = lambda method, data, step: pipe.send(("preview", _clusters(method, data), step))  # noqa: E731
        image = next(iter(job.images.values()))
        model.fit(image, progress=reporter, preview=preview, preview_every=2.0, control=order)
        model.save(job.model)
        pipe.send(("model", job.model))
    reporter.start("segmenting", len(job.images))
    for done, (name, image) in enumerate(job.images.items(), 1):
        result = model.predict_image(image)
        tree = result.hierarchy if "T" not in image.axes else None
        found = Segmented(result.labels, result.table, result.seconds, result.objects, tree)
        pipe.send(("result", name, found))
        reporter.update(done, {})


def _clusters(method: Any, data: Any) -> NDArray[np.integer]:
    """Return the cluster of each pixel of the first training image ``[*S]``, from 1 on."""
    import torch

    from selfseg.refine.decide import decide

    _, prepared = data.first
    memos = {"memos": (prepared.memo,)} if method.uses_memos else {}
    with torch.no_grad():
        found = method.assign(torch.from_numpy(prepared.array)[None].to(method.device), **memos)
    clusters: NDArray[np.integer] = prepared.restore_labels(decide(found[0].float().cpu().numpy()))
    return clusters


if __name__ == "__main__":
    from selfseg.apps.napari import process  # what is sent has the classes of this module, not of a main one

    process.main()
