"""The model: a method with its options before fitting, and all it takes to segment images after."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, ModelError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.methods._store import load_method, save_method
from selfseg.methods.base import Method, MethodConfig, build_config, current_options, find_method
from selfseg.pipeline.card import model_card, selfseg_version
from selfseg.pipeline.fitting import Fitting
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenting import How, Segmenting
from selfseg.pipeline.superpixels import OwnSuperpixels
from selfseg.pipeline.training_set import Failure
from selfseg.read import Source, find_inputs, split_frames
from selfseg.read.lazy import LazyImage
from selfseg.read.sources import is_single
from selfseg.refine.cleaning import Cleaning
from selfseg.refine.steps import parse_refinements
from selfseg.sample.prepare import Preparation
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
    clean
        Cleaning of the labels at prediction, ``"objects:200,holes:100"``: connected parts and holes of fewer pixels go; None =
        none. Stored and changed likewise.

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
        clean: str | None = None,
    ) -> None:
        self.method = method
        self.n_classes = n_classes
        self.preset = preset
        self.seed = seed
        self.prepare = prepare
        self.device = device
        self.options = options
        self.refine = refine
        self.clean = clean

    def config(self) -> MethodConfig:
        """Return the method's whole configuration: defaults, preset, options, number of classes, preparation."""
        changes = current_options(find_method(self.method), self.options or {})
        if self.n_classes is not None:
            changes["n_classes"] = self.n_classes
        if self.prepare is not None:
            changes["prepare"] = self.prepare
        return build_config(self.method, self.preset, **changes)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        names = ("method", "n_classes", "preset", "seed", "prepare", "device", "options", "refine", "clean")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments."""
        for name, value in params.items():
            if name not in self.get_params():
                raise UsageError(
                    "parameter", expected=f"one of {', '.join(self.get_params())}", got=repr(name), fix="check the name"
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
        parse_refinements(self.refine), Cleaning.parse(self.clean)  # mistakes are found before the learning, not after
        fitting = Fitting(self.method, self.config(), self.preset, self.seed, self.device, **{"labels": y, **how})
        fitted = fitting.run(inputs)
        self.method_, self.table_, self.preparation_ = fitted.method, fitted.table, fitted.preparation
        self.facts_, self.failures_ = fitted.facts, fitted.failures
        for change in fitted.facts["changes"]:
            self.options = {**(self.options or {}), **change["options"]}
        if fitting.written is not None:
            self.save(fitting.written)
            fitting.close(fitted)
        return self

    def predict(
        self,
        inputs: Any,
        axes: str | None = None,
        progress: Progress | None = None,
        slices: str | None = None,
        superpixels: str | Path | None = None,
    ) -> Result | list[Result]:
        """Segment images: a single input gives one `Result`, a list, folder or glob gives a list.

        A video is read whole; `selfseg.predict` segments one of any length into files. For `slices` and `superpixels` see `How`.

        Raises
        ------
        SelfsegError
            At the first input that cannot be segmented. `iter_predict` goes on past it.
        """
        how = How(slices=slices, superpixels=OwnSuperpixels(superpixels), progress=progress or Silent())
        results = []
        for _, outcome in self.iter_predict(find_inputs(inputs), axes, how):
            if isinstance(outcome, SelfsegError):
                raise outcome
            results.append(outcome)
        return results[0] if is_single(inputs) else results

    def iter_predict(
        self, sources: list[Source], axes: str | None = None, how: How | None = None
    ) -> Iterator[tuple[Source, Result | SelfsegError]]:
        """Yield each input with its result, or with the error that kept it from one; one image is in memory at a time."""
        how = how or How()
        how.progress.start("segmenting", len(sources))
        try:
            for done, source in enumerate(sources, 1):
                try:
                    image = source.read(axes)
                    if how.slices is None and self.check().segmenting().cuts(image):
                        how.progress.say(
                            f"{source.name}: a volume and a 2D model, so slice by slice along z (--slices)"
                        )
                    outcome: Result | SelfsegError = self.predict_image(image, how)
                except SelfsegError as error:
                    outcome = error
                except MemoryError:
                    fix = "use a smaller image, or a preparation with size=N"
                    outcome = InputError(
                        source.name, expected="an image that fits in memory", got="out of memory", fix=fix
                    )
                yield source, outcome
                how.progress.update(done, {})
        finally:
            how.progress.finish()

    def segmenting(self, how: How | None = None) -> Segmenting:
        """Return what segments single images with this fitted model."""
        return Segmenting(self.method_, self.table_, self.preparation_, self.refine, self.clean, how or How())

    def predict_image(self, image: Image, how: How | None = None) -> Result:
        """Segment one image; a series (axis T) frame by frame, a volume slice by slice if the model is 2D."""
        self.check(image)
        begun = time.monotonic()
        segment = self.segmenting(how).frame
        parts = [segment(frame) for frame in split_frames(image)]
        if "T" not in image.axes:
            labels, probabilities, tree = parts[0]
        else:
            labels, probabilities, tree = np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts], 1), None
        return Result(image, labels, probabilities, self.table_, time.monotonic() - begun, tree)

    def check(self, image: Image | LazyImage | None = None) -> Self:
        """Return the model if it is fitted and takes such an image.

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
        if image is None:
            return self
        wanted = (self.method_.n_channels, self.method_.n_dims)
        if (image.n_channels, 2 if self.segmenting().cuts(image) else len(image.spatial_shape)) != wanted:
            expected = "{} channel(s) in {}D, as in training".format(*wanted)
            got, fix = f"{image.n_channels} channel(s), axes {image.axes}", "convert it, or name its axes with --axes"
            raise InputError(image.name, expected=expected, got=got, fix=fix)
        return self

    def edit(self, merge: Sequence[Sequence[int]] = (), names: Mapping[int, str] | None = None) -> Self:
        """Merge classes and name them, after looking at the result; every later prediction follows.

        Parameters
        ----------
        merge
            Groups of ids that become one class each: ``[(3, 5)]``. The classes are numbered anew, dark to bright.
        names
            Names by id, as the ids are before the merging.

        Raises
        ------
        UsageError
            If the model is not fitted, or an id is unknown.
        """
        self.check()
        table = self.table_.named(names or {})
        self.table_ = table.merged(merge, keep=set(names or {})) if merge else table
        return self

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
    def load(cls, folder: Path | str, device: str = "auto", networks: str | None = None) -> "Segmenter":
        """Read a model folder (see `selfseg.load`)."""
        stored = load_method(Path(folder), networks)
        try:
            model = cls(**{**stored.facts.get("params", {}), "method": stored.name, "device": device})
            parse_refinements(model.refine)
            model.preparation_ = Preparation.from_json(stored.facts["preparation"])
            model.facts_ = dict(stored.facts.get("training", {}))
        except (KeyError, TypeError, ValueError, AttributeError, SelfsegError) as error:
            fix = "copy the folder again or train anew"
            raise ModelError(folder, expected="a whole model", got=str(error)[:200], fix=fix) from error
        model.method_ = stored.method.to(choose_device(device))
        model.table_ = stored.table
        model.failures_ = []
        return model
