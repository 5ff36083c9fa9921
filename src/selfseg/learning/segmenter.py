"""The model: a method with its options before fitting, and all it takes to segment images after."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, ModelError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.core.machine import own_rank
from selfseg.core.options import (
    AUTO,
    FitOptions,
    ModelOptions,
    ReadOptions,
    RunOptions,
    check_names,
    option_names,
    share_out,
)
from selfseg.core.progress import Progress, Silent
from selfseg.learning.default_method import LEARNED, choose_method
from selfseg.learning.fitting import TrainingRun
from selfseg.learning.hub import downloaded, for_sharing, is_on_hub, upload
from selfseg.learning.model_folder import read_run
from selfseg.methods.base import Method, MethodConfig, build_config, current_spelling, find_method
from selfseg.read.sources import Source, is_single
from selfseg.refine.decide import Cleaning
from selfseg.refine.steps import parse_refinements
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.sample.prepare import Preparation
from selfseg.segmenting.images import OwnSuperpixels, Settings, iter_segment, segment_image
from selfseg.segmenting.predicting import find_sources


class Segmenter(ModelOptions):
    """A segmentation model, in the manners of scikit-learn.

    Its arguments are the fields of `selfseg.core.options.ModelOptions`: ``method``, ``n_classes``, ``preset``, ``seed``, ``prepare``,
    ``device``, ``options``, ``refine``, ``clean``, ``channels``. `refine` and `clean` may be changed after fitting.

    Attributes
    ----------
    model_ : FittedModel
        The fitted model: method, classes, preparation, facts.
    failures_ : list
        Training inputs that could not be used.

    Raises
    ------
    UsageError
        If an option is unknown; the message has the name that is nearest.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Segmenter
    >>> photo = np.zeros((32, 32, 3), np.uint8)
    >>> photo[:, 16:] = 200
    >>> model = Segmenter("kmeans", n_classes=2, seed=0).fit([photo])
    >>> model.predict(photo.transpose(1, 0, 2)).labels[[0, 31], 0]
    array([1, 2], dtype=uint8)
    """

    model_: FittedModel
    failures_: list[Failure]

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(
            self, name, value
        )  # other options do not change once made; scikit-learn sets its estimators'

    def config(self) -> MethodConfig:
        """Return the method's whole configuration: defaults, preset, options, number of classes, preparation.

        Of the method ``auto`` it is that of the learned default, until `fit` has chosen.
        """
        return self._config(LEARNED if self.method == AUTO else self.method)

    def _config(self, method: str) -> MethodConfig:
        name, preset, changes = current_spelling(method, self.preset, self.options or {})
        if self.n_classes == "auto":
            changes = {**find_method(name).auto_classes, **changes}
        elif self.n_classes is not None:
            changes["n_classes"] = self.n_classes
        if self.prepare is not None:
            changes["prepare"] = self.prepare
        return build_config(name, preset, **changes)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {name: getattr(self, name) for name in option_names(ModelOptions)}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments."""
        check_names(params, option_names(ModelOptions))
        vars(self).update(params)
        return self

    def fit(self, inputs: Any, y: Any = None, **options: Any) -> Self:
        """Learn from images, and from labels where the method takes them.

        Parameters
        ----------
        inputs
            A path, a folder, a glob, an array, an `Image`, or a list of any of these.
        y
            Labels; the same as ``labels=``.
        **options
            Fields of `selfseg.core.options.FitOptions` (``labels_as``, ``scribbles``, ``mask``, ``axes``, ``resume``, ...) and of
            `RunOptions` (``out``, ``progress``, ...).

        Raises
        ------
        SelfsegError
            If an option is wrong, no input can be used, or the training fails.
        """
        learning, setting = share_out({"labels": y, **options}, FitOptions, RunOptions)
        if self.refine:  # mistakes are found before the learning, not after
            parse_refinements(self.refine)
        Cleaning.parse(self.clean)
        sources = find_sources(inputs, learning, setting.progress)
        method = self._chosen(sources, learning, setting)
        if self.refine is None:
            self.set_params(refine=find_method(method).refinements.get(self.preset))
        training = TrainingRun(
            replace(ModelOptions(**self.get_params()), method=method), self._config(method), learning, setting
        )
        fitted = training.run(sources)
        self.model_, self.failures_ = fitted.model, fitted.failures
        for change in fitted.model.facts["changes"]:
            self.set_params(options={**(self.options or {}), **change["options"]})
        if training.written is not None:
            self.save(training.written)
            training.finish(fitted)
        return self

    def _chosen(self, sources: Sequence[Source], learning: FitOptions, setting: RunOptions) -> str:
        """Return the name of the method to fit: the one that was named, under its name of today, or the default for these inputs."""
        if self.method != AUTO:
            method, preset, options = current_spelling(self.method, self.preset, self.options or {})
            if method != self.method:
                self.set_params(method=method, preset=preset, options=options)
            return method
        before = read_run(Path(setting.out)) if learning.resume and setting.out is not None else {}
        if before.get("method"):
            return str(before["method"])
        world = own_rank().world if setting.shared else 1
        method, reason = choose_method(sources, learning, self.preset, self.options, world)
        if setting.progress is not None:
            setting.progress.say(f"method {method}: {reason}")
        return method

    def predict(self, inputs: Any, *, progress: Progress | None = None, **options: Any) -> Result | list[Result]:
        """Segment images: a single input gives one `Result`, a list, folder or glob gives a list.

        A video is read whole; `selfseg.predict` segments one of any length into files.

        Parameters
        ----------
        inputs
            As for `fit`.
        progress
            Progress reporter.
        **options
            Fields of `selfseg.core.options.ReadOptions`: ``axes``, ``slices``, ``superpixels``, ``mask``, ``memory``, ``limit``.

        Raises
        ------
        SelfsegError
            At the first input that cannot be segmented. `selfseg.predict` continues with the others.

        Warns
        -----
        UserWarning
            If one class takes more than 99 % of an image.
        """
        (reading,) = share_out(options, ReadOptions)
        sources = find_sources(inputs, reading, progress)
        own = OwnSuperpixels(reading.superpixels, sources)
        settings = Settings(reading.memory_bytes, reading.slices, own, progress=progress or Silent())
        results = []
        for _, outcome in iter_segment(self.fitted, sources, reading.axes, settings):
            if isinstance(outcome, SelfsegError):
                raise outcome
            if remark := self.fitted.remark(outcome.areas):
                warnings.warn(remark, stacklevel=2)
            results.append(outcome)
        return results[0] if is_single(inputs) else results

    def predict_image(self, image: Image, settings: Settings | None = None) -> Result:
        """Segment one image; a series (axis T) frame by frame, a volume slice by slice if the model is 2D."""
        return segment_image(self.fitted, image, settings)

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
        """Origin of the model: seed, preset, steps, inputs."""
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
        """Read a model folder that `Segmenter.save` or `selfseg fit` wrote. Nothing in it is executed.

        Parameters
        ----------
        folder
            The folder; or ``hf://USER/NAME``, a model on a hub (`from_pretrained`).
        device
            Where to compute.
        networks
            Where the model was made with networks of your own (an option of deep k-means): the name of their module once more.
            A name that stands in the folder alone is not imported.

        Raises
        ------
        ModelError
            If it is no model folder, damaged, or written by a newer version.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> import selfseg
        >>> folder = tempfile.mkdtemp()
        >>> selfseg.fit(np.eye(8), "kmeans", n_classes=2, seed=0).save(folder)
        >>> len(selfseg.load(folder).table_)
        2
        """
        if is_on_hub(folder):
            return cls.from_pretrained(folder, device=device, networks=networks)
        loaded = FittedModel.load(folder, device, networks)
        own = {"method": loaded.name, "device": device, "refine": loaded.refine, "clean": loaded.clean}
        try:
            model = cls(**{**loaded.params, **own})
        except (TypeError, UsageError) as error:
            raise ModelError(
                folder, expected="a whole model", got=str(error)[:200], fix="copy the folder again or train anew"
            ) from error
        model.model_, model.failures_ = loaded, []
        return model

    def save_pretrained(self, save_directory: Path | str) -> None:
        """Write the model folder as it is shared: as `save`, without the names and hashes of the training images."""
        for_sharing(self.fitted).save(save_directory)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, **options: Any) -> str:
        """Upload the model to a hub (`selfseg[hub]`); return the address of the commit.

        Parameters
        ----------
        repo_id
            ``"USER/NAME"``; made if missing.
        private
            Whether a new repository is private; None = the account's default.
        **options
            ``token``, ``commit_message``, ``revision``, ``create_pr``, as in huggingface_hub.

        Raises
        ------
        UsageError
            If huggingface_hub is not installed, or the model is not fitted.
        OutputError
            If the hub refuses it, or cannot be reached.
        """
        return upload(self.fitted, repo_id, private, **options)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Path | str,
        *,
        device: str = "auto",
        networks: str | None = None,
        **options: Any,
    ) -> "Segmenter":
        """Read a model from a folder, or from a hub (`selfseg[hub]`).

        Parameters
        ----------
        pretrained_model_name_or_path
            A model folder, or ``"USER/NAME"`` on a hub, which may end with ``@REVISION``.
        device, networks
            As for `load`.
        **options
            ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``, as in huggingface_hub.

        Raises
        ------
        UsageError
            If there is no such folder, and the name is none of a hub; or huggingface_hub is not installed.
        InputError
            If there is no such model on the hub, or it cannot be reached.
        ModelError
            As for `load`.
        """
        place = pretrained_model_name_or_path
        if Path(place).is_dir() and not is_on_hub(place):
            return cls.load(place, device, networks)
        with downloaded(place, **options) as folder:
            return cls.load(folder, device, networks)
