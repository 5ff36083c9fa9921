"""From cluster probabilities to class probabilities, and from those to labels."""

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE, ClassTable


def class_probabilities(clusters: NDArray[np.float32], table: ClassTable) -> NDArray[np.float32]:
    """Sum the probabilities of the clusters of each class: ``[K *S]``, channel k belongs to label k + 1.

    Parameters
    ----------
    clusters
        ``[R *S]``, the method's output.
    table
        Classes with their source clusters.
    """
    if all(len(item.sources) == 1 for item in table.classes):
        return clusters[[item.sources[0] for item in table.classes]]
    return np.stack([clusters[list(item.sources)].sum(0) for item in table.classes])


def decide(probabilities: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> NDArray[np.integer]:
    """Return the label of the most likely class, 1..K, and 0 where a pixel is not valid; ties go to the smaller label.

    The type is the smallest unsigned integer that holds K.
    """
    kind = np.min_scalar_type(len(probabilities))
    labels = np.ones(probabilities.shape[1:], kind)
    most = np.array(probabilities[0])
    for label, channel in enumerate(probabilities[1:], 2):  # channel by channel: argmax over a first axis is slow
        labels[channel > most] = label
        np.maximum(most, channel, out=most)
    if valid is not None:
        labels[~valid] = IGNORE
    return labels
