import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from selfseg.core.errors import InputError
from selfseg.sample import k_means as module
from selfseg.sample.k_means import assign_rows, k_means, lloyd, moved_centres, seed_centres


def drawn(n=4000, features=6, clusters=5, seed=0, apart=2.0):
    """Rows of overlapping round clusters, and centres to begin with."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(0, apart, (clusters, features))
    rows = middles[rng.integers(0, clusters, n)] + rng.normal(0, 1, (n, features))
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(rows[:clusters].astype(np.float32))


def by_loops(rows, centres, weights):
    labels, distances, sums, mass = [], [], np.zeros(centres.shape), np.zeros(len(centres))
    for row, weight in zip(rows.double().numpy(), weights, strict=True):
        apart = [sum((x - c) ** 2 for x, c in zip(row, centre, strict=True)) for centre in centres.double().numpy()]
        k = min(range(len(centres)), key=apart.__getitem__)
        labels.append(k)
        distances.append(apart[k])
        sums[k] += weight * row
        mass[k] += weight
    return labels, distances, sums, mass


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("by_torch", [False, True], ids=["kernel", "torch"])
def test_assignment_is_that_of_the_loop(weighted, by_torch):
    rows, centres = drawn(300, 7, 4)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(1)) if weighted else None
    used = torch.ones(300) if weights is None else weights
    if by_torch:
        found = module.Assigned(*module._assign_piece(rows, centres, used))
    else:
        found = assign_rows(rows, centres, weights)
    labels, distances, sums, mass = by_loops(rows, centres, used.double().numpy())
    assert found.labels.tolist() == labels
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    np.testing.assert_allclose(found.sums, sums, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.mass, mass, rtol=1e-6)


def test_close_rows_far_from_the_origin_keep_their_digits():
    """The expanded form |x|^2 - 2xc + |c|^2 has nothing but rounding left here."""
    rows = 4096 + torch.tensor([[0.0], [0.25], [0.75], [1.0]])
    found = assign_rows(rows, 4096 + torch.tensor([[0.0], [1.0]]))
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.distances.tolist() == [0, 0.0625, 0.0625, 0]


def test_of_equally_near_centres_the_first_is_taken():
    found = assign_rows(torch.zeros(3, 2), torch.tensor([[0.0, 1], [1, 0], [-1, 0]]))
    assert found.labels.tolist() == [0, 0, 0]


def test_sums_do_not_depend_on_the_number_of_threads(monkeypatch):
    rows, centres = drawn(3 * 2**14 + 5, 4)
    runs = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("SELFSEG_THREADS", threads)
        runs.append(assign_rows(rows, centres))
    for run in runs[1:]:
        assert all(torch.equal(one, other) for one, other in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_lloyd_from_the_same_start_ends_where_scikit_learn_ends(weighted):
    rows, start = drawn()
    weights = torch.rand(len(rows), generator=torch.Generator().manual_seed(2)) if weighted else None
    theirs = KMeans(5, init=start.numpy(), n_init=1, tol=0, max_iter=500)
    theirs.fit(rows.numpy(), sample_weight=None if weights is None else weights.numpy())
    ours = lloyd(rows, start, weights, iterations=500, tolerance=0)
    assert np.array_equal(assign_rows(rows, ours.centres).labels, theirs.labels_)
    np.testing.assert_allclose(ours.centres, theirs.cluster_centers_, atol=1e-4)
    total = len(rows) if weights is None else float(weights.sum())
    assert ours.inertia == pytest.approx(theirs.inertia_ / total, rel=1e-5)


def test_seeds_are_rows_of_every_far_cluster():
    rows, _ = drawn(500, 3, 6, apart=400.0)
    truth = KMeans(6, n_init=10, random_state=0).fit(rows.numpy())
    for seed in range(20):
        seeds = seed_centres(rows, 6, seed)
        assert len(set(truth.predict(seeds.numpy()))) == 6
        assert all((rows == one).all(1).any() for one in seeds)


def test_seeds_follow_the_weights():
    """Two kinds of rows, one centre: it is drawn by weight."""
    rows = torch.tensor([[0.0]] * 90 + [[1.0]] * 10)
    weights = torch.tensor([1.0] * 90 + [81.0] * 10)
    drawn_ones = sum(float(seed_centres(rows, 1, seed, weights)) for seed in range(400)) / 400
    assert drawn_ones == pytest.approx(0.9, abs=0.06)


def test_more_restarts_are_no_worse_and_the_same_seed_gives_the_same():
    rows, _ = drawn(1500, 8, 9, seed=3, apart=1.0)
    once, many = (k_means(rows, 9, seed=1, restarts=n) for n in (1, 6))
    assert many.inertia <= once.inertia
    assert torch.equal(k_means(rows, 9, seed=1, restarts=6).centres, many.centres)
    theirs = KMeans(9, n_init=6, random_state=0).fit(rows.numpy()).inertia_ / len(rows)
    assert many.inertia == pytest.approx(theirs, rel=0.01)


def test_a_small_cluster_stays_and_an_empty_one_begins_anew():
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(np.concatenate([rng.normal(0, 1, (20000, 3)), rng.normal(12, 0.2, (7, 3))])).float()
    found = lloyd(rows, torch.tensor([[0.0, 0, 0], [1, 1, 1], [12, 12, 12]]))
    assert sorted(found.mass.tolist())[0] == 7
    lost = lloyd(rows, torch.tensor([[0.0, 0, 0], [1, 1, 1], [-900, 0, 0]]))
    assert (lost.mass > 0).all() and sorted(lost.mass.tolist())[0] == 7


def test_fewer_different_rows_than_centres():
    rows = torch.tensor([[1.0, 2]] * 8 + [[3.0, 4]] * 4)
    found = k_means(rows, 5, seed=0)
    assert torch.isfinite(found.centres).all() and found.inertia == 0
    assert sorted(found.mass.tolist())[-2:] == [4, 8]
    with pytest.raises(InputError, match="at least one row"):
        k_means(rows[:0], 2, seed=0)


def test_a_batch_moves_the_centres_as_its_rows_do_one_by_one():
    """Sculley's algorithm 1: labels first, then for each row n += 1, c += (x - c) / n."""
    rows, centres = drawn(200, 4, 3)
    counts = torch.tensor([5.0, 0.0, 30.0], dtype=torch.float64)
    found = assign_rows(rows, centres)
    expected, seen = centres.double().numpy().copy(), counts.numpy().copy()
    for row, k in zip(rows.double().numpy(), found.labels.tolist(), strict=True):
        seen[k] += 1
        expected[k] += (row - expected[k]) / seen[k]
    moved, after = moved_centres(centres, counts, found, None)
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    np.testing.assert_allclose(after, seen)


def test_with_a_memory_centres_never_freeze_and_unseen_ones_rest():
    centres, counts = torch.tensor([[0.0], [50.0]]), torch.tensor([1e9, 7.0], dtype=torch.float64)
    frozen, kept = moved_centres(centres, counts, assign_rows(torch.ones(100, 1), centres), None)
    assert float(frozen[0]) < 1e-6
    for _ in range(2000):
        centres, counts = moved_centres(centres, counts, assign_rows(torch.ones(100, 1), centres), 10)
    assert float(centres[0]) == pytest.approx(1, abs=0.05) and float(counts[0]) == pytest.approx(1000, rel=0.01)
    assert float(centres[1]) == 50 and float(counts[1]) == 7 == float(kept[1])
