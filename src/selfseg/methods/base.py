"""The contract of a method: everything that the loop, the store, the tiles and the apps call on one.

A new method needs `Config`, `n_classes`, `optimizers`, `steps` and `assign`; everything else here has a default.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from itertools import chain
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.optim import Optimizer

from selfseg.core.errors import UsageError
from selfseg.core.options import check_names
from selfseg.regions.merge_tree import MergeTree
from selfseg.sample.device import KeepsCounters
from selfseg.sample.stream import Batch, Memo

__all__ = ["Batch", "Memo", "Method", "MethodConfig", "build_config", "find_method", "method_names"]

ENTRY_POINTS = "selfseg.methods"


class MethodConfig(BaseModel):
    """Options that every method has: typed, checked, unchangeable; one docstring under each field makes flags, forms and files.

    A method's own `Config` adds to them.

    Examples
    --------
    >>> from selfseg.methods import MethodConfig, build_config
    >>> config = build_config("kmeans", n_classes=3)
    >>> isinstance(config, MethodConfig), config.n_classes
    (True, 3)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    n_classes: int | None = Field(default=None, ge=1, le=255)
    """Exact number of classes of the finished model; empty = as many as the method finds."""
    prepare: str = "auto"
    """Preparation of every image, in order, as named steps: ``rescale=0.5,range``. Stored and repeated at prediction."""
    batch_size: int = Field(default=1, ge=1)
    """Images in one optimiser step. Images of different sizes are padded, and the padding is masked out of everything."""
    accumulate: int = Field(default=1, ge=1)
    """Parts into which each batch is split to save memory; their gradients are averaged."""
    spacing: tuple[float, ...] = ()
    """Relative distance of pixels along each spatial axis, for example 5,1,1; empty = that of the first training image."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Matrix products while learning. bfloat16 is used in 2D where the hardware has it; parameters stay float32."""

    def distances(self, n_dims: int) -> tuple[float, ...]:
        """Return the relative distance of pixels along each of `n_dims` axes; 1 where none is known.

        `UsageError` if `spacing` has another number of axes, or is not positive.
        """
        if self.spacing and (len(self.spacing) != n_dims or min(self.spacing) <= 0):
            raise UsageError(
                "spacing",
                expected=f"{n_dims} positive numbers",
                got=str(self.spacing),
                fix="give one number for each spatial axis, or none",
            )
        return self.spacing or (1.0,) * n_dims

    @classmethod
    def build(cls, values: Mapping[str, Any], what: str = "option") -> Self:
        """Make a configuration out of plain values, or raise `UsageError` with the values that the first wrong field takes."""
        check_names(values, list(cls.model_fields), what)
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "configuration"
            message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            raise UsageError(
                f"{what} {name!r}",
                expected=message,
                got=repr(first["input"]),
                fix="see `selfseg methods NAME` for every option",
            ) from None

    def changed(self, **values: Any) -> Self:
        """Return a copy with some fields changed, checked again."""
        return type(self).build({**self.model_dump(), **values})


class Method(KeepsCounters, ABC):
    """A segmentation method, that learns from unlabelled images unless `needs_annotations`. One file, one subclass.

    The loop owns iteration, precision, device, checkpoints, previews and progress. A method owns its networks, its losses
    and its schedule. Its whole state is tensors: what `state` returns is what is saved.

    Parameters
    ----------
    config
        An instance of the class attribute `Config`.
    n_channels
        Channels of the prepared images.
    n_dims
        2 for images, 3 for volumes.

    Examples
    --------
    >>> from selfseg.methods import find_method
    >>> find_method("kmeans").dimensions
    (2, 3)
    """

    Config: ClassVar[type[MethodConfig]]
    """Options of the method: a frozen model with one docstring under each field."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of option values, by preset name. ``default`` is the empty set unless given."""

    refinements: ClassVar[Mapping[str, str]] = {}
    """Refinement of a preset where the user asks for none, in the grammar of `--refine`."""

    deviations: ClassVar[tuple[str, ...]] = ()
    """Where the ``paper`` preset differs from the paper, one phrase each."""

    auto_classes: ClassVar[Mapping[str, Any]] = {}
    """Options that ``--classes auto`` sets: the choice of a number without labels, where one is better than the default
    (``docs/label_free.md``). Empty = ``auto`` is the default."""

    live: ClassVar[tuple[str, ...]] = ()
    """Options that may change between two steps (`change`): weights, step sizes, and whatever is read anew at each step."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """Today's names of options by their earlier names, which users and stored models may still have (`current_options`)."""

    @classmethod
    def moved(cls, preset: str, options: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
        """Return today's name of method, preset and options if these belonged to this method once; None = they are today's."""
        return None

    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    """Numbers of spatial axes of the images that it takes."""

    uses_annotations: ClassVar[bool] = False
    """True if `Batch.annotations` changes what is learned; scribbles and labels are refused where it does not."""

    needs_annotations: ClassVar[bool] = False
    """True if nothing can be learned without `Batch.annotations`. The classes are those of the annotations then, in their order, and the
    option `n_classes` is set to their number."""

    distributed_unsupported: ClassVar[str | None] = "it does not sum over a batch that processes share"
    """Why it cannot learn in several processes; None = it can: every mean and sum over a batch in `steps` is of all that the
    processes have of it (`sample.shared_batch`), so that two of them with b images do what one does with 2b."""

    uses_superpixels: ClassVar[bool] = False
    """True if the user's own superpixels are used (``memo["superpixels"]``); they are refused where they are not."""

    uses_memos: ClassVar[bool] = False
    """True if `assign`, `hierarchy`, `objects` and `Batch` are given the memo of each image: a plain dict that lives as long as the
    prepared image. A method keeps there, under a key of its own with the options that matter, what learning and predicting share.
    ``memo["superpixels"]`` are the user's own: integers ``[*S]``, negative = outside; ``memo["valid"]``, bool ``[*S]`` or None, marks
    the pixels that count, where some may not."""

    def __init__(self, config: MethodConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__()
        if n_dims not in self.dimensions:
            raise UsageError(
                f"method {type(self).__module__.rpartition('.')[2]}",
                expected=f"images in {' or '.join(map(str, self.dimensions))} dimensions",
                got=f"{n_dims}",
                fix="cut volumes into slices (--slices z), or choose another method",
            )
        self.config = config
        self.n_channels = n_channels
        self.n_dims = n_dims

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """Number of channels K that `assign` returns."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the first classes, where the method defines what they are."""
        return ()

    @property
    def device(self) -> torch.device:
        """Device of the first tensor of the state; the CPU without any."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def relies_on(self) -> str:
        """Files that a stored model needs beside itself, such as the weights of another network: for its card; empty = nothing."""
        return ""

    @property
    def finds_objects(self) -> bool:
        """True if `objects` finds instances: they are then written and counted with the labels."""
        return False

    @property
    def context(self) -> int | None:
        """Pixels of halo that a prediction needs on each side; None = the whole image."""
        return None

    @property
    def multiple(self) -> int:
        """Tiles begin at multiples of this many pixels: a pooling sees a grid."""
        return 1

    @property
    def uses_triton(self) -> bool:
        """True if steps on a GPU use the kernel of `kernels.window_products_triton`, where it can be used."""
        return False

    @property
    def held_out(self) -> float:
        """Share of the training images, 0-1, that is kept from `steps` and given to `hold_out`."""
        return 0.0

    def hold_out(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Take the images that are never learned from, for choosing among weights; called before the first step, if there are any."""

    def n_steps(self, n_images: int) -> int:
        """Return how many optimiser steps (batches) the schedule has for `n_images` training images.

        Of the options that a method has: `epochs` passes; else `iterations`, at least `min_epochs` passes where a pass has several
        batches; else one pass.
        """
        options, batches = self.config.model_dump(), -(-n_images // min(self.config.batch_size, n_images))
        if options.get("epochs") is not None:
            return int(options["epochs"]) * batches
        least = options.get("min_epochs", 0) * batches if batches > 1 else 0
        return max(int(options.get("iterations", batches)), least)

    def optimizers(self) -> dict[str, Optimizer]:
        """Return the optimisers by the names that `steps` yields; empty for a method without gradients."""
        return {}

    @abstractmethod
    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do the work of one batch: yield an optimiser's name and the weighted loss terms of each of its steps.

        The loop sums the terms, steps that optimiser, and resumes the generator.
        """

    def change(self, options: Mapping[str, Any]) -> None:
        """Continue with other values of `live` options, as if a run with these values had begun at this step.

        `UsageError` if an option is not live, or a value is wrong; nothing has changed then.
        """
        if fixed := sorted(set(options) - set(self.live)):
            raise UsageError(
                "option to change on the way",
                expected=f"one of {', '.join(sorted(self.live)) or 'none'}",
                got=fixed[0],
                fix="begin anew from a checkpoint with it",
            )
        self.config = self.config.changed(**options)

    @abstractmethod
    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return class probabilities ``[B K *S]``, summing to 1 over K, of prepared images ``[B C *S]``.

        `memos`, one for each image, come only where `uses_memos`.
        """

    def portable(self) -> Callable[[Tensor], Tensor] | None:
        """Return what gives `assign` of images ``[B C *S]`` of any size by operations that torch's ONNX exporter can trace.

        None = the method is no network, so that other programs cannot run it.
        """
        return None

    def hierarchy(self, image: Tensor, memo: Memo | None = None) -> tuple[NDArray[np.int32], MergeTree] | None:
        """Return superpixels ``[*S]`` and their merge tree of a prepared image ``[C *S]``, if the method has its own.

        None = the tree is made from the probabilities.
        """
        return None

    def objects(self, image: Tensor, memo: Memo | None = None) -> NDArray[np.integer] | None:
        """Return instance labels ``[*S]``, 0 = none, of a prepared image ``[C *S]``, if the method finds instances itself.

        None = instances are made from the classes.
        """
        return None

    def fixed(self) -> Self:
        """Return the method as it learned from the training images, of a method that learns something of every image too.

        It segments images in parts, slices and frames, which must agree with each other.
        """
        return self

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Complete the model after the last step; `batches()` gives one pass over the training images, each time it is called."""

    def rebuild(self, images: Tensor) -> Tensor | None:
        """Return prepared images ``[B C *S]`` as the method rebuilds them from what it learned; None if it does no such thing."""
        return None

    @torch.no_grad()
    def pictures(self, image: Tensor, memo: Memo | None = None) -> dict[str, Tensor]:
        """Return pictures of how the method sees a prepared image ``[C *S]``, by name, on its scale: ``[C *S]`` or ``[C H W]``.

        Integers ``[*S]`` are labels, from 1 on. They change nothing that is learned. ``reconstruction`` is shown beside the labels
        while the method learns.
        """
        learning = self.training
        rebuilt = self.eval().rebuild(image[None])
        self.train(learning)
        return {} if rebuilt is None else {"reconstruction": rebuilt[0].float()}

    def choices(self) -> Mapping[str, str]:
        """Return what the method chose by itself while it learned, by name, each with the reason: shown in terminal and report."""
        return {}

    def status(self) -> Mapping[str, float]:
        """Return figures worth showing while training and keeping in the journal, for example ``{"classes": 7}``."""
        return {}

    def stop_reason(self) -> str | None:
        """Return why training should end before its last step, or None to continue."""
        return None

    def training_bytes(self, n_pixels: int) -> int:
        """Return an estimate of the memory that one step on `n_pixels` pixels takes, in bytes."""
        return 0

    def prediction_bytes(self, n_pixels: int) -> int:
        """Return an estimate of the memory that `assign` takes on `n_pixels` pixels, in bytes: tiles are planned by it.

        A quarter of a training step's, which keeps every map for the way back; at least 512 bytes a pixel.
        """
        return max(self.training_bytes(n_pixels) // 4, 512 * n_pixels)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that makes up the method, by name."""
        return dict(self.state_dict())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over tensors that `state` returned; `RuntimeError` or `KeyError` if one is missing or of the wrong shape."""
        self.load_state_dict(dict(state))

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of a run with other options; what that run did not have stays as it is here.

        `RuntimeError` if a tensor that both have differs in shape.
        """
        self.restore({**self.state(), **state})


def exactly_k_classes(
    areas: Tensor, n_classes: int | None, merge: Callable[[Tensor, int], NDArray[np.integer]], min_share: float = 0.0
) -> Tensor:
    """Drop dead clusters and merge the living ones down to `n_classes`; return the class of each cluster, ``[K]`` int64, -1 = dropped.

    `areas` ``[K]`` are the pixels of each cluster over the training images; one lives that has more than the share `min_share` of them all.
    Where fewer than `n_classes` live, the largest of the dead live too; None = every living cluster is a class, at least one. `merge` takes
    the living clusters ``[n]`` and a number of classes, and returns the class of each, 0-based.
    """
    alive = areas > min_share * areas.sum()
    if int(alive.sum()) < (n_classes or 1):
        alive[areas.argsort(descending=True, stable=True)[: n_classes or 1]] = True
    living = alive.nonzero().flatten()
    class_of = torch.full_like(areas, -1, dtype=torch.int64)
    class_of[living] = torch.from_numpy(merge(living, n_classes or len(living))).to(class_of)
    return class_of


def sum_within_classes(probabilities: Tensor, class_of: Tensor) -> Tensor:
    """Return class probabilities ``[B classes *S]`` of those of the living clusters ``[B n *S]``, by `exactly_k_classes`' result."""
    classes = class_of[class_of >= 0]
    merged = probabilities.new_zeros(len(probabilities), int(classes.max()) + 1, *probabilities.shape[2:])
    return merged.index_add_(1, classes, probabilities)


def summed_by_lists(probabilities: Tensor, class_of: Tensor) -> Tensor:
    """Return what `sum_within_classes` gives, by fixed lists of channels: a trace of it is of any size."""
    classes = class_of[class_of >= 0].tolist()
    lists = [[i for i, one in enumerate(classes) if one == wanted] for wanted in range(max(classes) + 1)]
    return torch.stack([probabilities[:, channels].sum(1) for channels in lists], 1)


def _own_names() -> list[str]:
    """Return the files of this package that are methods: all but this one and private ones."""
    package = importlib.import_module("selfseg.methods")
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in names if name != "base" and not name.startswith("_")]


def method_names() -> list[str]:
    """Return the names of all methods that can be found: files of this package, then entry points of other packages.

    Examples
    --------
    >>> from selfseg.methods import method_names
    >>> "contours" in method_names()
    True
    """
    own = _own_names()
    return sorted(own) + sorted(point.name for point in entry_points(group=ENTRY_POINTS) if point.name not in own)


def find_method(name: str) -> type[Method]:
    """Return the class of the method called `name`; `UsageError` if it does not exist, or its file defines no subclass of `Method`.

    Examples
    --------
    >>> from selfseg.methods import find_method
    >>> find_method("wnet").__name__
    'WNet'
    """
    if name in _own_names():  # other packages are looked through only where they must be: that takes 30 ms each time
        return _class_in(name)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            found: type[Method] = point.load()
            return found
    known = ", ".join(method_names())
    raise UsageError("method", expected=f"one of {known}", got=repr(name), fix="see `selfseg methods`")


def _class_in(name: str) -> type[Method]:
    module = importlib.import_module(f"selfseg.methods.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__:
            return value
    raise UsageError(
        f"method {name}", expected="a subclass of Method in its file", got="none", fix="see CONTRIBUTING.md"
    )


def current_options(method: type[Method], options: Mapping[str, Any], stored_before: bool = False) -> dict[str, Any]:
    """Return options under today's names, whichever names they came with.

    ``classes`` was the number of classes until format 2 of model folders, and where a method had an option ``n_classes`` it was its
    number of clusters. So ``n_classes`` means clusters beside ``classes``, and in options that were `stored_before`.
    """
    known = method.Config.model_fields
    names = {"classes": "n_classes", **method.renamed}
    if "n_clusters" in known and (stored_before or "classes" in options):
        names["n_classes"] = "n_clusters"
    return {key if key in known and key != "n_classes" else names.get(key, key): options[key] for key in options}


def current_spelling(name: str, preset: str, options: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return method, preset and options under today's names, whichever names they came with."""
    method = find_method(name)
    moved = method.moved(preset, options)
    if moved is not None:
        name, preset, options = moved
    return name, preset, current_options(find_method(name), options)


def stored_config(method: type[Method], stored: Mapping[str, Any]) -> MethodConfig:
    """Return a whole configuration that was stored, perhaps before options were renamed or added."""
    return method.Config.build(current_options(method, stored))


def build_config(name: str, preset: str = "default", **changes: Any) -> MethodConfig:
    """Return the configuration of a method: its defaults, a preset over them, single values over that.

    Examples
    --------
    >>> from selfseg.methods import build_config
    >>> build_config("feature_clustering", "fast", n_classes=4).n_classes
    4
    """
    method = find_method(name)
    presets = {"default": {}, **method.presets}
    if preset not in presets:
        raise UsageError(
            "preset",
            expected=f"one of {', '.join(sorted(presets))}",
            got=repr(preset),
            fix=f"see `selfseg methods {name}`",
        )
    changes = current_options(method, changes)
    return method.Config.build({**presets[preset], **changes}, what=f"{name} option")
