"""The model: a method with its options before fitting, and all it takes to segment images after."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, ModelError, SelfsegError, UsageError, explain
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.methods._base import Method, MethodConfig, build_config
from selfseg.methods._store import load_method, save_method
from selfseg.pipeline.card import model_card, selfseg_version
from selfseg.pipeline.fitting import Fitting
from selfseg.pipeline.result import Result
from selfseg.pipeline.training_set import Failure
from selfseg.predict.whole import predict as predict_probabilities
from selfseg.read import Source, find_inputs, split_frames
from selfseg.read.lazy import LazyImage
from selfseg.read.sources import is_one_image
from selfseg.refine.decide import class_probabilities, decide
from selfseg.refine.hierarchy import Hierarchy, hierarchy
from selfseg.refine.steps import Refined, parse_refinements, refine
from selfseg.sample.prepare import Preparation, Prepared
from selfseg.train.precision import choose_device


class Segmenter:
    """A segmentation model, in the manners of scikit-learn.

    Parameters
    ----------
    method
        Name of a method (``selfseg methods`` lists them).
    n_classes
        Exact number of classes; None = as many as the method finds.
    preset
        Named set of options: ``default``, ``fast``, ``paper``, ...
    seed
        Seed of every random choice.
    prepare
        Preparation steps, ``"rescale=0.5,range"``; None = the preset's.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    options
        Further options of the method's `Config`, by name.
    refine
        Refinement of the probabilities at prediction, ``"crf=weight:10,colour:0.05"``; None = none. It is stored with the
        model, and may be changed after fitting.

    Attributes
    ----------
    method_ : Method
        The fitted method.
    table_ : ClassTable
        The classes it found, dark to bright.
    preparation_ : Preparation
        The preparation, repeated for every image.
    facts_ : dict
        Where the model came from: seed, preset, steps, inputs.
    failures_ : list
        Training inputs that could not be used.

    Examples
    --------
    >>> model = Segmenter("feature_clustering", n_classes=4, seed=0).fit("images/*.tif")  # doctest: +SKIP
    >>> model.predict("other.tif").labels  # doctest: +SKIP
    """

    method_: Method
    table_: ClassTable
    preparation_: Preparation
    facts_: dict[str, Any]
    failures_: list[Failure]

    def __init__(
        self,
        method: str = "feature_clustering",
        n_classes: int | None = None,
        preset: str = "default",
        seed: int = 0,
        prepare: str | None = None,
        device: str = "auto",
        options: Mapping[str, Any] | None = None,
        refine: str | None = None,
    ) -> None:
        self.method = method
        self.n_classes = n_classes
        self.preset = preset
        self.seed = seed
        self.prepare = prepare
        self.device = device
        self.options = options
        self.refine = refine

    def config(self) -> MethodConfig:
        """Return the method's whole configuration: defaults, preset, options, number of classes, preparation."""
        changes = dict(self.options or {})
        if self.n_classes is not None:
            changes["classes"] = self.n_classes
        if self.prepare is not None:
            changes["prepare"] = self.prepare
        return build_config(self.method, self.preset, **changes)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        names = ("method", "n_classes", "preset", "seed", "prepare", "device", "options", "refine")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments."""
        for name, value in params.items():
            if name not in self.get_params():
                raise UsageError(
                    explain(
                        "parameter",
                        expected=f"one of {', '.join(self.get_params())}",
                        got=repr(name),
                        fix="check the name",
                    )
                )
            setattr(self, name, value)
        return self

    def fit(self, inputs: Any, y: Any = None, **how: Any) -> Self:
        """Learn from images, and from labels where the method takes them.

        Parameters
        ----------
        inputs
            A path, a folder, a glob, an array, an `Image`, or a list of any of these.
        y
            Labels, in one of the forms of `selfseg.pipeline.supervision.find_label_set`; the same as ``labels=``.
        **how
            Fields of `selfseg.pipeline.fitting.Fitting`: ``labels_as``, ``scribbles``, ``out``, ``resume``, ``axes``, ...
        """
        parse_refinements(self.refine)  # a mistake in it is found before the learning, not after
        fitting = Fitting(self.method, self.config(), self.preset, self.seed, self.device, **{"labels": y, **how})
        fitted = fitting.run(inputs)
        self.method_, self.table_, self.preparation_ = fitted.method, fitted.table, fitted.preparation
        self.facts_, self.failures_ = fitted.facts, fitted.failures
        if fitting.folder is not None:
            self.save(fitting.folder)
            fitting.close(fitted)
        return self

    def predict(self, inputs: Any, axes: str | None = None, progress: Progress | None = None) -> Result | list[Result]:
        """Segment images: a single input gives one `Result`, a list, folder or glob gives a list.

        Raises
        ------
        SelfsegError
            At the first input that cannot be segmented. `iter_predict` goes on past it.
        """
        results = []
        for _, outcome in self.iter_predict(find_inputs(inputs), axes, progress or Silent()):
            if isinstance(outcome, SelfsegError):
                raise outcome
            results.append(outcome)
        single = isinstance(inputs, np.ndarray | Image) or (isinstance(inputs, str | Path) and is_one_image(inputs))
        return results[0] if single else results

    def iter_predict(
        self, sources: list[Source], axes: str | None, progress: Progress, memory: int | None = None
    ) -> Iterator[tuple[Source, Result | SelfsegError]]:
        """Yield each input with its result, or with the error that kept it from one; one image is in memory at a time."""
        progress.start("segmenting", len(sources))
        try:
            for done, source in enumerate(sources, 1):
                try:
                    outcome: Result | SelfsegError = self.predict_image(source.read(axes), memory)
                except SelfsegError as error:
                    outcome = error
                except MemoryError:
                    fix = "use a smaller image, or a preparation with size=N"
                    outcome = InputError(
                        explain(source.name, expected="an image that fits in memory", got="out of memory", fix=fix)
                    )
                yield source, outcome
                progress.update(done, {})
        finally:
            progress.finish()

    def predict_image(self, image: Image, memory: int | None = None) -> Result:
        """Segment one image; a series (axis T) frame by frame.

        Parameters
        ----------
        image
            The image.
        memory
            Most that this process may take while tiles are predicted, in bytes; None = half of what is free.
        """
        self.check_image(image)
        begun = time.monotonic()
        parts = [self._predict_frame(frame, memory) for frame in split_frames(image)]
        if "T" not in image.axes:
            labels, probabilities, tree = parts[0]
        else:
            labels, probabilities, tree = np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts], 1), None
        return Result(image, labels, probabilities, self.table_, time.monotonic() - begun, tree)

    def _predict_frame(
        self, frame: Image, memory: int | None
    ) -> tuple[NDArray[np.integer], NDArray[np.float32], partial[Hierarchy]]:
        prepared = self.preparation_.apply(frame)
        clusters = predict_probabilities(self.method_, prepared.array, memory=memory)
        probabilities = prepared.restore(class_probabilities(clusters, self.table_))  # [K *S]
        refined = refine(parse_refinements(self.refine), probabilities, frame, prepared.inside)
        labels = decide(refined.probabilities, prepared.inside)
        return labels, refined.probabilities, partial(self._hierarchy, prepared, refined)

    def _hierarchy(self, prepared: Prepared, refined: Refined) -> Hierarchy:
        """The refinement's merge tree, else the method's own, else that of the probabilities, at the image's own size."""
        if refined.tree is not None:
            return refined.tree
        own = self.method_.hierarchy(torch.from_numpy(prepared.array))
        if own is None:
            return hierarchy(refined.probabilities, prepared.restore(prepared.array), mask=prepared.inside)
        superpixels, tree = own
        return Hierarchy(prepared.restore_labels(superpixels, fill=-1), tree)

    def check_image(self, image: Image | LazyImage) -> None:
        """Raise unless this model is fitted and can segment such an image.

        Raises
        ------
        UsageError
            If it is not fitted.
        InputError
            If the image has other channels or dimensions than those it learned from.
        """
        if not hasattr(self, "method_"):
            raise UsageError(
                "model: expected a fitted model, got an unfitted one; call fit first, or selfseg.load a folder"
            )
        wanted = (self.method_.n_channels, self.method_.n_dims)
        if (image.n_channels, len(image.spatial_shape)) != wanted:
            expected = "{} channel(s) in {}D, as in training".format(*wanted)
            got = f"{image.n_channels} channel(s), axes {image.axes}"
            raise InputError(
                explain(image.name, expected=expected, got=got, fix="convert it, or name its axes with --axes")
            )

    def save(self, folder: Path | str) -> None:
        """Write the model folder: weights, configuration, class table, card."""
        params = {key: value for key, value in self.get_params().items() if key not in ("method", "device")}
        params["options"] = dict(params["options"] or {})
        stored = {
            "selfseg": selfseg_version(),
            "params": params,
            "preparation": self.preparation_.to_json(),
            "training": self.facts_,
        }
        card = model_card(
            self.method, self.preset, self.seed, self.method_, self.table_, str(self.preparation_), self.facts_
        )
        save_method(Path(folder), self.method_, self.method, self.table_, stored, card)

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "Segmenter":
        """Read a model folder (see `selfseg.load`)."""
        stored = load_method(Path(folder))
        try:
            model = cls(**{**stored.facts.get("params", {}), "method": stored.name, "device": device})
            parse_refinements(model.refine)
            model.preparation_ = Preparation.from_json(stored.facts["preparation"])
            model.facts_ = dict(stored.facts.get("training", {}))
        except (KeyError, TypeError, ValueError, AttributeError, SelfsegError) as error:
            fix = "copy the folder again or train anew"
            raise ModelError(explain(str(folder), expected="a whole model", got=str(error)[:200], fix=fix)) from error
        model.method_ = stored.method.to(choose_device(device))
        model.table_ = stored.table
        model.failures_ = []
        return model
