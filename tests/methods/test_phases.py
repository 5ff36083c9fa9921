import pytest
import torch

from selfseg.methods.deep_kmeans import ALONE, GATHERING, TOGETHER, Phases, in_float32


@pytest.mark.parametrize(("n_images", "batch_size"), [(1, 1), (7, 2), (30, 8)])
def test_a_run_has_as_many_batches_as_announced(n_images, batch_size):
    phases, steps = Phases((10, 6), 2, batch_size), 0
    announced = phases.n_steps(n_images)
    assert announced >= 17
    while not (phases.now == TOGETHER and phases.done()):
        for first in range(0, n_images, batch_size):
            ends, steps = first + batch_size >= n_images, steps + 1
            if phases.now != GATHERING:
                phases.count(min(batch_size, n_images - first), ends)
            if ends and phases.now == ALONE and phases.done():
                phases.enter(GATHERING)
            elif ends and phases.now == GATHERING:
                phases.enter(TOGETHER)
    assert steps == announced and int(phases.n_images) == n_images
    assert phases.progress() == 1


def test_a_first_phase_may_end_after_its_least_passes():
    phases = Phases((100, 5), 3, 1)
    for done in range(3):
        assert not phases.least()
        phases.count(1, True)
        assert int(phases.passes) == done + 1
    assert phases.least() and not phases.done()


def test_float32_whatever_the_loop_asks_for():
    class Method:
        @in_float32
        def work(self, images, factor):
            return (images @ images * factor).dtype, torch.is_autocast_enabled("cpu")

    images = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (images @ images).dtype == torch.bfloat16
        assert Method().work(images, 2) == (torch.float32, False)
        assert (images @ images).dtype == torch.bfloat16
