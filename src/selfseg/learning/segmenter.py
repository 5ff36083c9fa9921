"""The model: a method with its options before fitting, and all it takes to segment images after."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, ModelError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.core.options import FitOptions, ModelOptions, RunOptions, share_out
from selfseg.core.progress import Progress, Silent
from selfseg.learning.fitting import TrainingRun
from selfseg.methods.base import Method, MethodConfig, build_config, current_options, find_method
from selfseg.read import find_inputs
from selfseg.read.sources import is_single
from selfseg.refine.cleaning import Cleaning
from selfseg.refine.steps import parse_refinements
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.sample.prepare import Preparation
from selfseg.segmenting.segmenting import How, iter_segment, segment_image
from selfseg.segmenting.superpixels import OwnSuperpixels


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
    model_ : FittedModel
        The fitted model: method, classes, preparation, facts.
    failures_ : list
        Training inputs that could not be used.

    Examples
    --------
    >>> model = Segmenter("feature_clustering", n_classes=4, seed=0).fit("images/*.tif")  # doctest: +SKIP
    >>> model.predict("other.tif").labels  # doctest: +SKIP
    """

    model_: FittedModel
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
            Labels, in one of the forms of `selfseg.learning.annotations.find_label_files`; the same as ``labels=``.
        **how
            Fields of `FitOptions` and `RunOptions`: ``labels_as``, ``scribbles``, ``out``, ``resume``, ``axes``, ...
        """
        parse_refinements(self.refine), Cleaning.parse(self.clean)  # mistakes are found before the learning, not after
        options, setting = share_out({"labels": y, **how}, FitOptions, RunOptions)
        training = TrainingRun(ModelOptions(**self.get_params()), self.config(), options, setting)
        fitted = training.run(inputs)
        self.model_, self.failures_ = fitted.model, fitted.failures
        for change in fitted.model.facts["changes"]:
            self.options = {**(self.options or {}), **change["options"]}
        if training.written is not None:
            self.save(training.written)
            training.finish(fitted)
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
            At the first input that cannot be segmented. `selfseg.predict` goes on past it.
        """
        how = How(slices=slices, superpixels=OwnSuperpixels(superpixels), progress=progress or Silent())
        results = []
        for _, outcome in iter_segment(self.fitted, find_inputs(inputs), axes, how):
            if isinstance(outcome, SelfsegError):
                raise outcome
            results.append(outcome)
        return results[0] if is_single(inputs) else results

    def predict_image(self, image: Image, how: How | None = None) -> Result:
        """Segment one image; a series (axis T) frame by frame, a volume slice by slice if the model is 2D."""
        return segment_image(self.fitted, image, how)

    @property
    def fitted(self) -> FittedModel:
        """The fitted model, with the refinement and cleaning as they are set now.

        Raises
        ------
        UsageError
            If `fit` was not called.
        """
        if not hasattr(self, "model_"):
            raise UsageError(
                "model",
                expected="a fitted model",
                got="an unfitted one",
                fix="call fit first, or selfseg.load a folder",
            )
        params = {k: v for k, v in self.get_params().items() if k not in ("method", "device", "refine", "clean")}
        params["options"] = dict(params["options"] or {})
        return replace(self.model_, params=params, refine=self.refine, clean=self.clean, device=self.device)

    @property
    def method_(self) -> Method:
        """The fitted method."""
        return self.model_.method

    @property
    def table_(self) -> ClassTable:
        """The classes it found, dark to bright."""
        return self.model_.table

    @property
    def preparation_(self) -> Preparation:
        """The preparation, repeated for every image."""
        return self.model_.preparation

    @property
    def facts_(self) -> dict[str, Any]:
        """Where the model came from: seed, preset, steps, inputs."""
        return self.model_.facts

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
        table = self.fitted.table.named(names or {})
        table = table.merged(merge, keep=set(names or {})) if merge else table
        self.model_ = replace(self.model_, table=table)
        return self

    def save(self, folder: Path | str) -> None:
        """Write the model folder: weights, configuration, class table, card."""
        self.fitted.save(folder)

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto", networks: str | None = None) -> "Segmenter":
        """Read a model folder (see `selfseg.load`)."""
        loaded = FittedModel.load(folder, device, networks)
        try:
            model = cls(**{**loaded.params, "method": loaded.name, "device": device})
        except TypeError as error:
            fix = "copy the folder again or train anew"
            raise ModelError(folder, expected="a whole model", got=str(error)[:200], fix=fix) from error
        model.refine, model.clean = loaded.refine, loaded.clean
        model.model_, model.failures_ = loaded, []
        return model
