"""The blocks of an image larger than memory as work: for this process, or for others that open the same files themselves."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import ModelError
from selfseg.export.label_zarr import known_label_zarr, storing
from selfseg.read import open_lazy
from selfseg.refine.decide import class_probabilities, decide
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.sample.windowed import Scaled, SizeChange, Windowed
from selfseg.segmenting.block_plan import Plan
from selfseg.segmenting.block_refining import BlockRefining
from selfseg.tiling.tiles import Region
from selfseg.tiling.tilewise import TileWise


@dataclass(frozen=True)
class Target:
    """Where labels go.

    Attributes
    ----------
    path
        The zarr folder.
    image_axes
        Axes of the image in its file; those of the labels are the same, without C.
    stack
        The axis along which frames are predicted one by one: T, or Z where a 2D model cuts a volume. None = there is none.
    number
        Place along it.
    """

    path: Path
    image_axes: str
    stack: str | None = None
    number: int = 0

    def place(self, region: Region) -> tuple[slice, ...]:
        """Return where a region of the spatial axes lies in the array."""
        spatial, here = iter(region), slice(self.number, self.number + 1)
        return tuple(here if letter == self.stack else next(spatial) for letter in self.image_axes.replace("C", ""))

    def write(self, labels: Any, region: Region, values: NDArray[np.integer]) -> None:
        """Store the labels ``[*region]`` of a region.

        Raises
        ------
        OutputError
            If the disk is full or the folder may not be written.
        """
        place = self.place(region)
        with storing(self.path):
            labels[place] = values.reshape([part.stop - part.start for part in place])


@dataclass
class BlockWork:
    """The blocks of one frame, all that they need opened.

    Attributes
    ----------
    model
        A fitted model.
    windowed
        The frame, prepared window by window.
    plan
        How it is cut.
    target
        Where the labels go.
    labels
        Their array.
    kept_bytes
        Memory for tiles that are kept for their neighbours.
    first
        Number of the first block.
    refining
        What they are refined by.
    """

    model: FittedModel
    windowed: Windowed
    plan: Plan
    target: Target
    labels: Any
    kept_bytes: int
    first: int = 0
    refining: BlockRefining = field(default_factory=BlockRefining)

    def __post_init__(self) -> None:
        self._tiles = TileWise(self.model.method, self._read, self.plan.tiles, self.kept_bytes)
        self._places = list(self.plan.blocks.places())

    def _read(self, region: Region) -> NDArray[np.float32]:
        return self.windowed.read(region)[0]

    def do(self, block: int) -> None:
        """Predict a block, and store its labels, 0 where the image has nothing."""
        region = self.plan.blocks.tile(self._places[block - self.first]).core
        image, refining = self.windowed.image, self.refining
        outer, inner = refining.grown(region, image)
        probabilities = class_probabilities(self.windowed.restored(outer, self._tiles.probabilities), self.model.table)
        valid = None
        if refining.refinements or image.valid is not None or image.data.dtype.kind == "f":
            window = self.windowed.window(outer)
            valid = window.valid
            probabilities = refining.refined(probabilities, window, valid) if refining.refinements else probabilities
        values = decide(probabilities[(slice(None), *inner)], None if valid is None else valid[inner])
        self.target.write(self.labels, region, values)

    def order(self, folder: Path) -> "BlockOrder":
        """Store the model in `folder`, and return what another process needs to do the same blocks."""
        self.model.save(folder)
        image, config = self.windowed.image, self.model.method.config
        return BlockOrder(
            version=selfseg_version(),
            model=folder.absolute(),
            networks=getattr(config, "networks", None) or None,
            device=self.model.device,
            image=Path(image.source).absolute(),
            steps=self.windowed.steps,
            plan=self.plan,
            target=replace(self.target, path=self.target.path.absolute()),
            kept_bytes=self.kept_bytes,
            first=self.first,
            refining=self.refining,
        )


@dataclass(frozen=True)
class BlockOrder:
    """What it takes to do blocks in another process, on another machine: paths that both can read, and plain values."""

    version: str
    model: Path
    networks: str | None
    device: str
    image: Path
    steps: tuple[Scaled | SizeChange, ...]
    plan: Plan
    target: Target
    kept_bytes: int
    first: int
    refining: BlockRefining

    def open(self) -> BlockWork:
        """Open model, image and labels.

        Raises
        ------
        SelfsegError
            If one of them cannot be opened here, or this is another version of selfseg.
        """
        if selfseg_version() != self.version:
            fix = "install the same version everywhere"
            raise ModelError("selfseg", expected=self.version, got=selfseg_version(), fix=fix)
        model = FittedModel.load(self.model, self.device, self.networks)
        target, image = self.target, open_lazy(self.image, self.target.image_axes)
        image = image if target.stack is None else image.at(target.stack, target.number)
        windowed, labels = Windowed(image, self.steps), known_label_zarr(target.path)
        return BlockWork(model, windowed, self.plan, target, labels, self.kept_bytes, self.first, self.refining)
