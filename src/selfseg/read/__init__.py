"""Reading: files and arrays in, images with axes and spacing out.

`find_inputs` finds and names the inputs; `Source.open` and `Source.read` open and read one, once a run; `open_lazy` and `read_image` do
it by path; `find_annotations` and `read_annotations` do the same for scribbles, `with_masks` for masks. `frames` and `video` read
what is a sequence, one frame at a time. A format is one file here, loaded when a file of its suffix is met (`formats`).
"""

from selfseg.read.arrays import split_frames
from selfseg.read.formats import open_lazy, read_image
from selfseg.read.labels import find_annotations, read_annotations, with_masks
from selfseg.read.sources import Inputs, Source, find_inputs

__all__ = [
    "Inputs",
    "Source",
    "find_annotations",
    "find_inputs",
    "open_lazy",
    "read_annotations",
    "read_image",
    "split_frames",
    "with_masks",
]
