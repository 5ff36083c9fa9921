from selfseg.core.machine import LRUCache


def test_what_was_used_longest_ago_goes_first():
    kept = LRUCache(limit=10)
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
