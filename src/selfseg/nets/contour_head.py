"""A small head that reads contours off the maps of a frozen network: 1x1 to a few channels, summed from coarse to fine, 3x3 between."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.nets.norms import GroupNorm

WIDTH, GROUPS = 24, 4
"""Channels of every level, and groups of its norm."""

RARE = -2.5
"""First bias of the answer: few pixels lie on a contour."""


def _mixing() -> nn.Sequential:
    conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode="replicate", bias=False)
    return nn.Sequential(conv, GroupNorm(GROUPS, WIDTH), nn.ReLU())


class ContourHead(nn.Module):
    """Logit of a contour, from maps of several strides.

    Parameters
    ----------
    channels, strides
        Of each map. Maps of one stride are summed. The answer has the finest stride.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.levels = sorted(set(strides))
        self.level_of = [self.levels.index(stride) for stride in strides]
        self.narrow = nn.ModuleList([nn.Conv2d(n, WIDTH, 1) for n in channels])
        self.mix = nn.ModuleList([_mixing() for _ in self.levels[:-1]] or [_mixing()])
        self.answer = nn.Conv2d(WIDTH, 1, 1)
        self.answer.bias = nn.Parameter(torch.tensor([RARE]))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits ``[B 1 h w]``, h and w of the finest of the normalised maps ``[B F h w]``."""
        sums: list[Tensor | None] = [None for _ in self.levels]
        for one, narrow, level in zip(maps, self.narrow, self.level_of, strict=True):
            found, before = narrow(one), sums[level]
            sums[level] = found if before is None else before + found
        levels = [one for one in sums if one is not None]
        x = levels.pop()  # the coarsest
        for k in reversed(range(len(levels))):
            x = F.interpolate(x, levels[k].shape[-2:], mode="bilinear", align_corners=False) + levels[k]
            x = self.mix[k](F.relu(x))
        if len(self.levels) == 1:
            x = self.mix[0](F.relu(x))
        out: Tensor = self.answer(x)
        return out


@torch.no_grad()
def contour_probability(heads: Sequence[nn.Module], maps: Sequence[Tensor]) -> Tensor:
    """Return the mean probability of a contour ``[h w]`` over heads, and over the image and its mirror image, of maps ``[1 F h w]``."""
    mirrored = [one.flip(-1) for one in maps]
    answers = [torch.sigmoid(head(maps)) + torch.sigmoid(head(mirrored)).flip(-1) for head in heads]
    return torch.stack(answers).mean(0)[0, 0] / 2
