"""Where a method with two phases of learning and a pass between them stands: whole passes over the images, counted."""

import torch
from torch import Tensor, nn

ALONE, GATHERING, TOGETHER = 0, 1, 2
"""The autoencoder alone, one pass that gathers features for k-means, network and centres together."""


class Phases(nn.Module):
    """Phase, passes and images so far, as tensors, so that a resumed run stands where it was.

    Parameters
    ----------
    iterations
        Batches of the first and the last phase; whole passes are made of them.
    min_epochs
        Passes of either, at least.
    batch_size
        Images in a batch.
    """

    phase: Tensor
    passes: Tensor
    seen: Tensor
    n_images: Tensor

    def __init__(self, iterations: tuple[int, int], min_epochs: int, batch_size: int) -> None:
        super().__init__()
        self.iterations, self.min_epochs, self.batch_size = iterations, min_epochs, batch_size
        for name in ("phase", "passes", "seen", "n_images"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @property
    def now(self) -> int:
        """The phase."""
        return int(self.phase)

    def n_steps(self, n_images: int) -> int:
        """Return the batches of both phases and of the pass between them, for a number of images."""
        epochs = sum(self._epochs(phase, n_images) for phase in (ALONE, TOGETHER)) + 1
        return epochs * self._batches(n_images)

    def _batches(self, n_images: int) -> int:
        return -(-n_images // min(self.batch_size, n_images))

    def _epochs(self, phase: int, n_images: int) -> int:
        wanted = self.iterations[0 if phase == ALONE else 1]
        return max(self.min_epochs, -(-wanted // self._batches(n_images)))

    def count(self, n_images: int, ends_pass: bool) -> None:
        """Take note of a batch. The first pass of all tells how many images there are."""
        self.seen += n_images
        if self.now == ALONE and not int(self.passes):
            self.n_images += n_images
        self.passes += ends_pass

    def enter(self, phase: int) -> None:
        """Begin a phase."""
        self.phase.fill_(phase)
        self.passes.zero_()
        self.seen.zero_()

    def least(self) -> bool:
        """Return whether this phase has had its least number of passes."""
        return int(self.passes) >= self.min_epochs

    def done(self) -> bool:
        """Return whether this phase, the first or the last, has had all its passes."""
        return int(self.passes) >= self._epochs(self.now, max(1, int(self.n_images)))

    def progress(self) -> float:
        """Return the share of the last phase that is done."""
        n_images = max(1, int(self.n_images))
        return int(self.seen) / (n_images * self._epochs(TOGETHER, n_images))
