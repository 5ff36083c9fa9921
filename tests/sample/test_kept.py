import numpy as np

from selfseg.sample.lru_cache import LRUCache, image_key


def test_keys_follow_content_shape_and_mask():
    image = np.arange(12.0).reshape(1, 3, 4)
    keys = {
        image_key(image),
        image_key(image + 1),
        image_key(image.reshape(1, 4, 3)),
        image_key(image.astype(np.float32)),
        image_key(image, np.ones((3, 4), bool)),
        image_key(image, np.eye(3, 4, dtype=bool)),
    }
    assert len(keys) == 6
    assert image_key(image) == image_key(np.asfortranarray(image))


def test_what_was_used_longest_ago_goes_first():
    kept = LRUCache(most_pixels=10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 4)
    assert kept.get("a") == 1
    kept.put("c", 3, 4)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
    kept.put("a", 5, 4)
    assert kept.get("a") == 5 and kept.get("c") == 3
    kept.put("large", 6, 99)
    assert kept.get("large") == 6 and kept.get("a") is None


def test_values_are_made_once():
    kept, made = LRUCache(10), []
    for _ in range(3):
        assert kept.get_or_make("a", 1, lambda: made.append(1) or "value") == "value"
    assert made == [1]
