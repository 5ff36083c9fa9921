"""Cleaning of labels as its rule says: rounds over the pixels of the whole image, a part at a time."""

import numpy as np
from scipy.ndimage import label


def clean_loops(labels, holes=0, objects=0):
    """Clean labels ``[*S]``, 0 = ignore: fill holes under `holes` pixels, then give parts under `objects` to a neighbour."""
    cleaned = labels.astype(np.int64)
    while holes and fill_round(cleaned, holes):
        pass
    while objects and absorb_round(cleaned, objects):
        pass
    return cleaned.astype(labels.dtype)


def parts_of(labels):
    """Return the masks of all connected parts in the order of their first pixels, and the faces between them: {(i, j): n}."""
    masks = []
    for value in np.unique(labels[labels > 0]):
        found, count = label(labels == value)
        masks += [found == number for number in range(1, count + 1)]
    masks.sort(key=lambda mask: np.flatnonzero(mask)[0])
    number = np.full(labels.shape, -1)
    for i, mask in enumerate(masks):
        number[mask] = i
    faces = {}
    for axis in range(labels.ndim):
        lines = np.moveaxis(number, axis, 0)
        for i, j in zip(lines[:-1].ravel().tolist(), lines[1:].ravel().tolist(), strict=True):
            if i != j:
                faces[i, j] = faces[j, i] = faces.get((i, j), 0) + 1
    return masks, faces


def fill_round(labels, most):
    masks, faces = parts_of(labels)
    inner = (slice(1, -1),) * labels.ndim
    border = np.ones(labels.shape, bool)
    border[inner] = False
    changed = False
    before = labels.copy()
    for i, mask in enumerate(masks):
        around = {j for a, j in faces if a == i}
        if mask.sum() < most and not (mask & border).any() and len(around) == 1 and -1 not in around:
            labels[mask] = before[masks[around.pop()]][0]
            changed = True
    return changed


def absorb_round(labels, least):
    masks, faces = parts_of(labels)
    sizes = [int(mask.sum()) for mask in masks]
    target = {}
    for i, size in enumerate(sizes):
        around = [j for a, j in faces if a == i and j >= 0]
        if size < least and around:
            target[i] = max(around, key=lambda j: (faces[i, j], sizes[j], -j))
    before = labels.copy()
    for i, mask in enumerate(masks):
        chain = [i]
        while chain[-1] in target and target[chain[-1]] not in chain:
            chain.append(target[chain[-1]])
        root = chain[-1]
        if root in target:  # a circle: all that lead into it, and it, take the label of the largest of them
            group = [j for j in range(len(masks)) if end_of(j, target) & end_of(i, target)]
            root = max(group, key=lambda j: (sizes[j], -j))
        labels[mask] = before[masks[root]][0]
    return bool(target)


def end_of(i, target):
    """Return the parts of the circle, or the one part that stays, to which a part leads."""
    chain = [i]
    while chain[-1] in target and target[chain[-1]] not in chain:
        chain.append(target[chain[-1]])
    return set(chain[chain.index(target[chain[-1]]) :]) if chain[-1] in target else {chain[-1]}
