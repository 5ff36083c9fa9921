"""The default method: one rule for `segment`, `fit`, Python and the studio.

Contours need no learning, and their regions agree best with people's on photographs (docs/benchmark.md), so an image in 2D gets them.
Volumes, sequences, annotations and images larger than memory get the learned default.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from selfseg.core.errors import SelfsegError
from selfseg.core.image import Image
from selfseg.core.options import FitOptions
from selfseg.methods.base import build_config, find_method
from selfseg.read import Source
from selfseg.tiling.tiles import memory_budget

INSTANT, LEARNED = "contours", "feature_clustering"
"""Names of the two defaults."""


def choose_method(
    sources: Sequence[Source],
    options: FitOptions,
    preset: str = "default",
    own: Mapping[str, Any] | None = None,
    world: int = 1,
) -> tuple[str, str]:
    """Choose the method for inputs that come without one, and return its name and the reason.

    Parameters
    ----------
    sources
        The training inputs. The first that can be opened decides.
    options
        Options of learning.
    preset, own
        Named preset and options of the method: if contours lack one of them, they belong to the learned default.
    world
        Processes that learn together.
    """
    method = find_method(INSTANT)
    if preset not in {"default", *method.presets} or set(own or ()) - set(method.Config.model_fields):
        return LEARNED, f"preset or options are those of {LEARNED}"
    if options.labels is not None or options.scribbles is not None:
        return LEARNED, "it learns from annotations"
    if world > 1:
        return LEARNED, "it learns in several processes"
    if (options.frames, options.n_frames, options.slices, options.windows) != (None,) * 4:
        return LEARNED, "frames, slices or windows are learned from"
    image = next(filter(None, (_opened(source, options.axes) for source in sources)), None)
    if image is None or any(source.is_video(options.axes) for source in sources) or "T" in image.axes:
        return LEARNED, "the images are frames of a sequence" if image is not None else "no image could be opened"
    if "Z" in image.axes:
        return LEARNED, "the image is a volume"
    needed = method(build_config(INSTANT, preset), image.n_channels).training_bytes(prod(image.spatial_shape))
    if needed > memory_budget(options.memory_bytes):
        return LEARNED, f"contours of a whole image of this size take {needed / 2**30:.1f} GiB of memory"
    return INSTANT, f"an image in 2D; learn features instead with --method {LEARNED}"


def _opened(source: Source, axes: str | None) -> Image | None:
    """Return the image, None if it cannot be opened: it is named when it is read."""
    try:
        return source.open(axes)
    except SelfsegError:
        return None
