"""The dock widget: choose what is looked for, press Segment, pull the slider; save a model, apply it to all layers."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.utils.notifications import show_warning
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from selfseg.apps.napari.layers import STACKS, image_of, labels_look, place_of, warm_up
from selfseg.apps.napari.process import Job, Segmented
from selfseg.apps.napari.work import Work
from selfseg.core.errors import SelfsegError
from selfseg.learning.look import Candidate, candidates
from selfseg.learning.segmenter import Segmenter

LEARNED = (
    Candidate("Learned classes", "several images, volumes", "feature_clustering"),
    Candidate("Learned classes, quick", "several images, volumes", "feature_clustering", "fast"),
)
"""Methods that learn longer than the quick candidates of `selfseg look`."""

MOST_REGIONS = 1000
"""Right end of the slider."""

CLASSES, REGIONS, OBJECTS = "classes", "regions", "objects"
"""Endings of the names of the layers that are made."""


class SegmentWidget(QWidget):
    """Segment the open layer without labels.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari gives.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.model: Segmenter | None = None
        self.work: Work | None = None
        self._result: Segmented | None = None
        self._layer: Any = None
        self._folder = TemporaryDirectory(prefix="selfseg-napari-")
        self._regions: Labels | None = None
        self._build()
        self.refresh()
        names = [candidate.method for candidate in (*candidates(), *LEARNED)]
        Thread(target=warm_up, args=(names,), daemon=True).start()
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self.refresh)

    def _build(self) -> None:
        self.layer, self.purpose, self.stack = QComboBox(), QComboBox(), QComboBox()
        for candidate in (*candidates(), *LEARNED):
            self.purpose.addItem(f"{candidate.title}: {candidate.purpose}", candidate)
        self.stack.addItems(list(STACKS))
        self.layer.setToolTip("Image layer to segment")
        self.purpose.setToolTip("What the picture shows, or what is looked for: method and preset follow")
        self.stack.setToolTip("Meaning of the axis before rows and columns, where the layer has one")
        self.n_classes, self.seed = QSpinBox(), QSpinBox()
        self.n_classes.setRange(0, 255)
        self.n_classes.setSpecialValueText("as found")
        self.n_classes.setToolTip("Exact number of classes")
        self.seed.setRange(0, 999_999)
        for value in (1, 0):  # a box that was never changed may show nothing
            self.seed.setValue(value)
        self.seed.setToolTip("The same seed gives the same labels")
        self.segment_button, self.stop_button = QPushButton("Segment"), QPushButton("Stop")
        self.segment_button.clicked.connect(self.segment)
        self.stop_button.clicked.connect(self.stop)
        self.bar, self.status = QProgressBar(), QLabel("Choose what you look for, and press Segment.")
        self.status.setWordWrap(True)
        self.slider, self.shown = QSlider(Qt.Orientation.Horizontal), QLabel("")
        self.slider.setRange(2, 3)
        self.slider.valueChanged.connect(self.cut)
        self.slider.setToolTip("Merge regions until this number is left")
        self.save_button, self.load_button = QPushButton("Save model..."), QPushButton("Load model...")
        self.apply_button = QPushButton("Apply to all image layers")
        self.save_button.clicked.connect(lambda: self.save())
        self.load_button.clicked.connect(lambda: self.load())
        self.apply_button.clicked.connect(self.apply)
        self._arrange()
        self._enable()

    def _arrange(self) -> None:
        form, whole = QFormLayout(), QVBoxLayout(self)
        for name, widget in (
            ("Layer", self.layer),
            ("Look for", self.purpose),
            ("Stack is", self.stack),
            ("Classes", self.n_classes),
            ("Seed", self.seed),
        ):
            form.addRow(name, widget)
        whole.addLayout(form)
        whole.addLayout(_row(self.segment_button, self.stop_button))
        whole.addWidget(self.bar)
        whole.addWidget(self.status)
        form = QFormLayout()
        form.addRow("Regions", self.slider)
        form.addRow("", self.shown)
        whole.addLayout(form)
        whole.addLayout(_row(self.save_button, self.load_button))
        whole.addWidget(self.apply_button)
        whole.addStretch()

    def refresh(self, event: Any = None) -> None:
        """List the image layers; the active one is chosen where none was."""
        chosen, layers = self.layer.currentText(), self._images()
        self.layer.clear()
        self.layer.addItems([layer.name for layer in layers])
        active = self.viewer.layers.selection.active
        names = [chosen, active.name if active in layers else ""]
        self.layer.setCurrentIndex(max(0, *(self.layer.findText(name) for name in names)) if layers else -1)
        self._enable()

    def _images(self) -> list[Any]:
        return [layer for layer in self.viewer.layers if isinstance(layer, ImageLayer)]

    def _enable(self) -> None:
        """Switch on what can be pressed now."""
        busy, any_image = self.work is not None, bool(self._images())
        self.segment_button.setEnabled(any_image and not busy)
        self.stop_button.setEnabled(busy)
        self.apply_button.setEnabled(any_image and self.model is not None and not busy)
        self.save_button.setEnabled(self.model is not None and not busy)
        self.load_button.setEnabled(not busy)
        self.slider.setEnabled(self._result is not None and not busy)

    def segment(self) -> None:
        """Learn from the chosen layer and segment it, beside the window."""
        candidate: Candidate = self.purpose.currentData()
        try:
            self._layer = self.viewer.layers[self.layer.currentText()]
            image = image_of(self._layer, self.stack.currentText())
        except (SelfsegError, KeyError) as error:
            self._fail(str(error))
            return
        learn = {
            "method": candidate.method,
            "n_classes": self.n_classes.value() or None,
            "preset": candidate.preset,
            "seed": self.seed.value(),
            "options": dict(candidate.options),
        }
        self._start(Job({self._layer.name: image}, self._model_folder, learn), self._learned)

    def apply(self) -> None:
        """Segment all image layers with the model."""
        model = self.model
        if model is None:
            return
        images = {}
        for layer in self._images():
            try:
                images[layer.name] = image_of(layer, self.stack.currentText())
            except SelfsegError as error:
                self._fail(str(error))
        model.save(self._model_folder)
        self._start(Job(images, self._model_folder), self._applied)

    @property
    def _model_folder(self) -> Path:
        """Where window and process exchange the model."""
        return Path(self._folder.name) / "model"

    def stop(self) -> None:
        """Stop: what is learned so far is used."""
        if self.work is not None:
            self.work.stop()
            self.status.setText("stopping after this step ...")

    def save(self, folder: str | Path | None = None) -> None:
        """Save the model into a folder, which is asked for unless given."""
        folder = folder or QFileDialog.getExistingDirectory(self, "Folder for the model")
        model = self.model
        if folder and model is not None:
            self._try(lambda: model.save(folder), f"the model is in {folder}")

    def load(self, folder: str | Path | None = None) -> None:
        """Load a model from a folder, which is asked for unless given."""
        folder = folder or QFileDialog.getExistingDirectory(self, "Folder of a model")
        if folder and self._try(lambda: Segmenter.load(folder), f"model {Path(folder).name}: press Apply"):
            self._enable()

    def _try(self, do: Callable[[], Segmenter | None], said: str) -> bool:
        try:
            found = do()
        except SelfsegError as error:
            self._fail(str(error))
            return False
        if isinstance(found, Segmenter):
            self.model = found
        self.status.setText(said)
        return True

    def cut(self, n_regions: int) -> None:
        """Show the merge tree of the result, cut into the number of regions on the slider."""
        if self._result is None or self._result.hierarchy is None:
            return
        labels = self._result.hierarchy.cut(n_regions=n_regions) + 1
        self.shown.setText(f"{n_regions} regions")
        if self._regions is None or self._regions not in self.viewer.layers:
            self._regions = self._show(f"{self._layer.name} {REGIONS}", labels, self._layer, None)
        else:
            self._regions.data = labels

    def _start(self, job: Job, then: Callable[[str, Segmented], None]) -> None:
        self.work = work = Work(job, self)
        work.progressed.connect(self._progressed)
        work.said.connect(self.status.setText)
        work.previewed.connect(self._previewed)
        work.modelled.connect(lambda folder: self.load(folder))
        work.segmented.connect(then)
        work.failed.connect(self._fail)
        work.finished.connect(self._ended)
        self._enable()
        work.start()

    def _ended(self) -> None:
        self.work = None
        self.bar.reset()
        self._enable()

    def _progressed(self, task: str, done: int, total: int) -> None:
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(done)
        self.bar.setFormat(f"{task} %v/%m")

    def _previewed(self, labels: NDArray[Any], step: int) -> None:
        self._show(f"{self._layer.name} {CLASSES}", labels, self._layer, None)
        self.status.setText(f"clusters after step {step}; Stop uses what is learned so far")

    def _learned(self, name: str, result: Segmented) -> None:
        self._result, self._regions, layer = result, None, self._layer
        self._show(f"{layer.name} {CLASSES}", result.labels, layer, result.table)
        said = f"{len(result.table)} classes in {result.seconds:.1f} s"
        if result.objects is not None:
            said = f"{len(np.unique(result.objects[result.objects > 0]))} objects, {said}"
            self._show(f"{layer.name} {OBJECTS}", result.objects, layer, None)
        if result.hierarchy is None:
            self._result = None
        else:
            most = min(MOST_REGIONS, result.hierarchy.n_superpixels)
            self.slider.blockSignals(True)
            self.slider.setRange(min(2, most), most)
            self.slider.setValue(min(2, most))
            self.slider.blockSignals(False)
        self.status.setText(f"{said}. Pull the slider for any number of regions.")

    def _applied(self, name: str, result: Segmented) -> None:
        self._show(f"{name} {CLASSES}", result.labels, self.viewer.layers[name], result.table)
        self.status.setText(f"{name} is segmented")

    def _show(self, name: str, labels: NDArray[Any], layer: Any, table: Any) -> Labels:
        """Put labels into the layer of this name, which is made where it is missing, in the place of an image layer."""
        look = {} if table is None else labels_look(table)
        if name in self.viewer.layers and self.viewer.layers[name].data.shape == labels.shape:
            shown = self.viewer.layers[name]
            shown.data = labels
            for key, value in look.items():
                setattr(shown, key, value)
        else:
            shown = self.viewer.add_labels(labels, name=name, opacity=0.5, **place_of(layer), **look)
        return shown

    def _fail(self, message: str) -> None:
        self.status.setText(message)
        if message != "stopped":
            show_warning(message)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """End the work before the window goes."""
        if self.work is not None:
            self.work.stop(now=True)
            self.work.wait()
        self._folder.cleanup()
        super().closeEvent(event)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
