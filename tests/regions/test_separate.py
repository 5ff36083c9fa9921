import numpy as np
import pytest
from skimage.measure import label

from selfseg.regions.separate import separate_objects


def loop(objects):
    out = objects.copy()
    for place in np.argwhere(objects > 0):
        around = tuple(slice(max(0, i - 1), i + 2) for i in place)
        near = objects[around]
        if ((near > 0) & (near != objects[tuple(place)])).any():
            out[tuple(place)] = 0
    return out


@pytest.mark.parametrize("shape", [(20, 25), (6, 9, 8)])
def test_pixels_beside_another_object_become_background(shape):
    rng = np.random.default_rng(0)
    objects = rng.integers(0, 4, shape) * (rng.random(shape) < 0.8)
    objects[0] = -1
    assert np.array_equal(separate_objects(objects), loop(objects))


def test_touching_objects_become_two_components_and_others_keep_their_pixels():
    objects = np.zeros((12, 24), int)
    objects[2:10, 2:8], objects[2:10, 8:14], objects[3:6, 17:22] = 7, 2, 5
    apart = separate_objects(objects)
    assert label(objects > 0, connectivity=2).max() == 2 and label(apart > 0, connectivity=2).max() == 3
    assert np.array_equal(apart == 5, objects == 5)
    assert not apart[2:10, 7:9].any() and (apart[2:10, 6] == 7).all()
