"""The class table of a finished method: ids, names, colours, shares."""

from collections.abc import Iterable

import numpy as np
import torch

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.palette import class_colours
from selfseg.learning.supervision import Annotations
from selfseg.methods.base import Method
from selfseg.sample.stream import Batch


@torch.no_grad()
def order_classes(method: Method, batches: Iterable[Batch], annotations: Annotations | None = None) -> ClassTable:
    """Number the classes by their mean intensity on the training images, dark to bright; ties by the method's own order.

    A method that needs annotations keeps their ids; an id between them that no label had gets an empty class.

    Parameters
    ----------
    method
        The finished method.
    batches
        One pass over the training images.
    annotations
        Labels or scribbles; the class that took annotation c is named after it.
    """
    areas = np.zeros(method.n_classes, np.int64)
    sums = np.zeros(method.n_classes)
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    for batch in batches:
        images = batch.images.to(device)
        found = method.assign(images, batch.memos) if method.uses_memos else method.assign(images)
        labels = found.argmax(1).cpu()
        chosen = torch.ones_like(labels, dtype=torch.bool) if batch.valid is None else batch.valid
        flat = labels[chosen].numpy()
        areas += np.bincount(flat, minlength=len(areas))
        sums += np.bincount(flat, weights=batch.images.mean(1)[chosen].double().numpy(), minlength=len(areas))
    intensity = np.divide(sums, areas, out=np.full(len(areas), np.inf), where=areas > 0)
    order: list[int | None] = list(np.argsort(intensity, kind="stable").tolist())
    if method.needs_annotations:
        ids = tuple(range(1, len(areas) + 1)) if annotations is None else annotations.ids
        order = [ids.index(label) if label in ids else None for label in range(1, max(ids) + 1)]
    colours, names = class_colours(len(order)), _annotation_names(method, annotations)
    rows = []
    for label, source in enumerate(order, 1):
        if source is None:
            rows.append(SegmentClass(label, f"class {label}, no labels", colours[label - 1], 0.0, 0.0, ()))
            continue
        share = float(areas[source] / max(1, areas.sum()))
        value = float(intensity[source]) if areas[source] else 0.0
        name = names.get(source, f"class {label}")
        rows.append(SegmentClass(label, name, colours[label - 1], share, value, (source,)))
    return ClassTable(tuple(rows))


def _annotation_names(method: Method, annotations: Annotations | None) -> dict[int, str]:
    """Name the classes that annotations asked for, where the method is made of them or keeps a map from annotations to classes."""
    if annotations is None:
        return {}
    if method.needs_annotations:
        return dict(enumerate(annotations.names))
    class_of = getattr(method, "class_of", None)
    if class_of is None:
        return {}
    return {
        int(class_of[annotation]): name
        for annotation, name in enumerate(annotations.names)
        if int(class_of[annotation]) >= 0
    }
