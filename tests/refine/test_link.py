import numpy as np

from selfseg.refine.link import LIKENESS, STRENGTH, Link


def test_it_is_the_recursive_average_where_nothing_moves():
    rng = np.random.default_rng(0)
    pictures = 10 + rng.random((4, 2, 20, 24)).astype(np.float32) * np.array([1, 0.1], np.float32)[:, None, None]
    pictures[1:] = pictures[0] + rng.normal(0, 0.01, pictures[1:].shape)
    frames = rng.dirichlet(np.ones(3), (4, 20, 24)).transpose(0, 3, 1, 2).astype(np.float32)
    link, expected = Link(), frames[0]
    np.testing.assert_array_equal(link(frames[0], pictures[0]), frames[0])
    for t in range(1, 4):
        low, high = np.percentile(pictures[t], (1, 99))
        gap = ((pictures[t] - pictures[t - 1]) ** 2).mean(0)
        near = np.array([[np.pad(gap, 4, "edge")[y : y + 9, x : x + 9].mean() for x in range(24)] for y in range(20)])
        weight = STRENGTH * np.exp(-near / (2 * (LIKENESS * (high - low)) ** 2))
        expected = (1 - weight) * frames[t] + weight * expected
        found = link(frames[t], pictures[t])
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_a_cut_forgets_what_was_before():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 1, 32, 32)).astype(np.float32)
    certain = np.zeros((2, 32, 32), np.float32)
    certain[0] = 1
    link = Link(likeness=0.01)
    link(certain, one)
    mine = certain[::-1].copy()
    assert np.abs(link(mine, other + 3) - mine).mean() < 0.01


def test_it_follows_what_moves():
    rng = np.random.default_rng(0)
    scene = np.kron(rng.random((16, 40)), np.ones((6, 6))).astype(np.float32)
    truth = (np.kron(rng.random((16, 40)), np.ones((6, 6))) > 0.5).astype(int)
    link, plain_errors, linked_errors = Link(), [], []
    for step in range(8):
        view = slice(5 * step, 5 * step + 128)
        noisy = np.clip(truth[:, view] * 0.2 + 0.4 + rng.normal(0, 0.2, truth[:, view].shape), 0, 1).astype(np.float32)
        frame = np.stack([1 - noisy, noisy])
        linked = link(frame, scene[None, :, view])
        plain_errors.append((frame.argmax(0) != truth[:, view]).mean())
        linked_errors.append((linked.argmax(0) != truth[:, view]).mean())
    assert linked_errors[-1] < 0.6 * plain_errors[-1] and np.mean(np.diff(linked_errors)) < 0


def test_frames_of_another_size_start_anew():
    link = Link()
    link(np.ones((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32))
    other = np.ones((1, 6, 8), np.float32)
    np.testing.assert_array_equal(link(other, np.zeros((1, 6, 8), np.float32)), other)
