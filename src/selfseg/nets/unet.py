"""U-Net (Ronneberger, Fischer & Brox 2015), as published or with same-size convolutions, and the variants that W-Net is made of.

With what goes with it: images mirrored outwards to any size, He's start, and the mean answer over an image's symmetries.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from selfseg.nets.norms import BatchNorm2d, BatchNorm3d, GroupNorm

Norm = Literal["batch", "group", "none"]
Up = Literal["transposed", "transposed3", "linear"]


class _InShares:
    """A convolution of torch that keeps a fixed order where one is asked for (`kernels.convolution.shared_conv`)."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return ``[B K *S]``."""
        from selfseg.kernels.convolution import can_share, shared_conv

        if output_size is None and can_share(x, self):
            return shared_conv(x, self)
        own: Any = super()
        result: Tensor = own.forward(x) if output_size is None else own.forward(x, output_size)
        return result


class Conv2d(_InShares, nn.Conv2d):
    """`torch.nn.Conv2d`."""


class Conv3d(_InShares, nn.Conv3d):
    """`torch.nn.Conv3d`."""


class ConvTranspose2d(_InShares, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`."""


class ConvTranspose3d(_InShares, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d`."""


CONVOLUTION: dict[int, Any] = {2: Conv2d, 3: Conv3d}
TRANSPOSED: dict[int, Any] = {2: ConvTranspose2d, 3: ConvTranspose3d}
BATCH_NORM: dict[int, Any] = {2: BatchNorm2d, 3: BatchNorm3d}
CONVOLUTIONS = (*CONVOLUTION.values(), *TRANSPOSED.values())
POOL: dict[int, Any] = {2: F.max_pool2d, 3: F.max_pool3d}
LINEAR = {2: "bilinear", 3: "trilinear"}

MOST_GROUPS = 8
"""Groups of a group norm, where the channels can be divided so; else as many as can be."""


@dataclass(frozen=True)
class UNetShape:
    """The parts of a U-Net.

    Examples
    --------
    >>> from selfseg.nets.unet import UNetShape
    >>> UNetShape(width=4, depth=2).depth
    2
    """

    width: int = 64
    """Channels of the first module; each further level has twice as many."""
    depth: int = 4
    """Number of poolings; there are 2 depth + 1 modules."""
    n_dims: int = 2
    separable: bool = False
    """Depthwise-separable convolutions in all modules but the first, and the last where `plain_last`."""
    plain_last: bool = True
    """The last module has ordinary convolutions, as in W-Net."""
    norm: Norm = "batch"
    norm_last: bool = True
    """ReLU before the norm, as W-Net's paper has it; False = norm before the ReLU."""
    up: Up = "transposed"
    """``transposed`` (2x2, stride 2), ``transposed3`` (3x3, stride 2) or ``linear`` (interpolation, then a 1x1 convolution)."""
    dropout: float = 0.0
    """Share of the values set to 0 after each module while training."""
    bottom_dropout: float = 0.0
    """The same at the end of the contracting path only, its last two modules, as in the paper."""
    padded: bool = True
    """Convolutions keep the size, with zeros around the image; False = they use what is there and lose a pixel on each
    side, and the contracting side is cropped before it is joined, as in the paper."""


class Module(nn.Module):
    """Two 3x3 convolutions, each with ReLU and norm, then dropout: one of W-Net's 18 modules."""

    def __init__(self, n_in: int, n_out: int, shape: UNetShape, separable: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (n_in, n_out):
            layers += convolution(channels, n_out, shape.n_dims, separable, shape.padded)
            after = [nn.ReLU(inplace=True), norm_layer(n_out, shape)]
            layers += [layer for layer in (after if shape.norm_last else after[::-1]) if layer is not None]
        if shape.dropout:
            layers.append(nn.Dropout(shape.dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B C' *S]`` of ``[B C *S]``."""
        y: Tensor = self.layers(x)
        return y


def convolution(n_in: int, n_out: int, n_dims: int, separable: bool, padded: bool = True) -> list[nn.Module]:
    """Return a 3x3 convolution, of the same size if padded; separable: 3x3 in each channel, then 1x1 over channels (Chollet 2017)."""
    kind, around = CONVOLUTION[n_dims], int(padded)
    if not separable:
        return [kind(n_in, n_out, 3, padding=around)]
    return [kind(n_in, n_in, 3, padding=around, groups=n_in), kind(n_in, n_out, 1)]


def norm_layer(n_channels: int, shape: UNetShape) -> nn.Module | None:
    """Return the norm over `n_channels`, or None."""
    if shape.norm == "batch":
        layer: nn.Module = BATCH_NORM[shape.n_dims](n_channels)
        return layer
    if shape.norm == "group":
        groups = next(n for n in range(min(MOST_GROUPS, n_channels), 0, -1) if n_channels % n == 0)
        return GroupNorm(groups, n_channels)
    return None


class UpStep(nn.Module):
    """Double the size and halve the channels, then join with the contracting side."""

    def __init__(self, n_in: int, shape: UNetShape) -> None:
        super().__init__()
        self.mode = LINEAR[shape.n_dims]
        if shape.up == "transposed":
            self.layer: nn.Module = TRANSPOSED[shape.n_dims](n_in, n_in // 2, 2, stride=2)
        elif shape.up == "transposed3":
            self.layer = TRANSPOSED[shape.n_dims](n_in, n_in // 2, 3, stride=2, padding=1, output_padding=1)
        else:
            self.layer = CONVOLUTION[shape.n_dims](n_in, n_in // 2, 1)
        self.interpolated = shape.up == "linear"

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return ``[B n_in *S]`` of x ``[B n_in *S/2]`` and skip ``[B n_in/2 *S]``, or a larger one, whose middle is taken."""
        if self.interpolated:
            # The 1x1 convolution commutes with the interpolation, and is cheaper on the small side.
            y = doubled(self.layer(x), self.mode)
        else:
            y = self.layer(x)
        return torch.cat([cut_middle(skip, y.shape[2:]), y], dim=1)


def doubled(x: Tensor, mode: str) -> Tensor:
    """Return ``[B C *S]`` at twice the size, interpolated linearly.

    The gradient of torch's own form adds up in any order on a GPU; where a fixed one is asked for, sums of shifted maps do the same.
    """
    if not torch.are_deterministic_algorithms_enabled() or x.device.type == "cpu":
        return F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, n - 1, 1)
        before = torch.cat([first, x.narrow(axis, 0, n - 1)], axis)
        after = torch.cat([x.narrow(axis, 1, n - 1), last], axis)
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1).flatten(axis, axis + 1)
    return x


class UNet(nn.Module):
    """A U-Net without activation at its end: ``[B C *S]`` to ``[B K *S]``.

    Padded, it takes any size (mirrored up to the pooling multiple). Not padded, it takes images that `frame` has made, and
    returns `margin` pixels less on each side.

    Examples
    --------
    >>> import torch
    >>> from selfseg.nets.unet import UNet, UNetShape
    >>> network = UNet(n_in=1, n_out=2, shape=UNetShape(width=4, depth=2))
    >>> network(torch.zeros(1, 1, 32, 32)).shape
    torch.Size([1, 2, 32, 32])
    """

    def __init__(self, n_in: int, n_out: int, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        widths = [shape.width * 2**level for level in range(shape.depth + 1)]
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            before = n_in if level == 0 else widths[level - 1]
            self.down.append(Module(before, width, shape, shape.separable and level > 0))
        self.ups, self.up = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(shape.depth)):
            plain = shape.plain_last and level == 0
            self.ups.append(UpStep(widths[level + 1], shape))
            self.up.append(Module(widths[level + 1], widths[level], shape, shape.separable and not plain))
        self.head = CONVOLUTION[shape.n_dims](shape.width, n_out, 1)

    @property
    def multiple(self) -> int:
        """Sides are mirrored up to a multiple of this."""
        return int(2**self.shape.depth)

    @property
    def margin(self) -> int:
        """Pixels by which the response is smaller than the image on each side; 0 if padded. The paper: 92."""
        return 0 if self.shape.padded else 6 * self.multiple - 4

    @property
    def reach(self) -> int:
        """Pixels on each side that a response can depend on, at most; a multiple of `multiple`. A group norm sees everything."""
        return 9 * self.multiple

    def response_side(self, wanted: int) -> int:
        """Return the smallest side of at least `wanted` pixels at which every map that is pooled is even."""
        rest = 0 if self.shape.padded else 4  # 388 = 24 x 16 + 4 in the paper
        return max(1, (wanted - rest + self.multiple - 1) // self.multiple) * self.multiple + rest

    def frame(self, images: Tensor) -> Tensor:
        """Return images of any size, mirrored outwards as far as the network needs to answer for each of their pixels."""
        if self.shape.padded:
            return mirror_pad(images, self.multiple)
        after = [self.response_side(n) - n + self.margin for n in images.shape[2:]]
        return mirror_frame(images, self.margin, after)

    def forward(self, images: Tensor) -> Tensor:
        """Return the response ``[B K *S]``."""
        return self._responses([images], _one_after_the_other)[0]

    def responses(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the response to each of several batches of images, as `forward` does.

        On a GPU that learns, in fewer launches: all go through a layer before the next, so that one launch is the ReLU of all, and
        their gradients of the parameters are added up at once (`_Together`).
        """
        kind = self.head.weight.device.type
        apart = len(images) < 2 or kind != "cuda" or not torch.is_grad_enabled() or torch.is_autocast_enabled(kind)
        if apart or self._compiled_call_impl is not None:
            return [self(batch) for batch in images]
        return self._responses(images, _Together(self, len(images)))

    def _responses(self, images: Sequence[Tensor], run: "Run") -> list[Tensor]:
        maps = [mirror_pad(x, self.multiple) if self.shape.padded else x for x in images]
        skips = []
        for level, module in enumerate(self.down):
            maps = run(module, maps if level == 0 else [POOL[self.shape.n_dims](x, 2) for x in maps])
            if level >= self.shape.depth - 1:
                maps = [F.dropout(x, self.shape.bottom_dropout, self.training) for x in maps]
            skips.append(maps)
        skips.pop()
        for step, module in zip(self.ups, self.up, strict=True):
            maps = run(module, run(step, maps, skips.pop()))
        found = run(self.head, maps)
        if not self.shape.padded:
            return found
        return [cut_back(y, x.shape[2:]) for y, x in zip(found, images, strict=True)]


Run = Callable[..., list[Tensor]]
"""Takes a layer and, for each of its arguments, a list with one map of each batch; gives the list of results."""


def _one_after_the_other(layer: nn.Module, *maps: Sequence[Tensor]) -> list[Tensor]:
    return [layer(*each) for each in zip(*maps, strict=True)]


class _Together:
    """Runs a network's layers on n batches, each with parameters of its own, which are the network's (`_ForEach`)."""

    def __init__(self, network: nn.Module, n: int) -> None:
        places = [(layer, name) for layer in network.modules() for name in layer._parameters]
        places = [(layer, name) for layer, name in places if layer._parameters[name] is not None]
        given = [layer._parameters[name] for layer, name in places]
        found = iter(_ForEach.apply(n, *given))
        self.own: list[dict[nn.Module, dict[str, Any]]] = []
        for _ in range(n):
            self.own.append({layer: dict(layer._parameters) for layer, _ in places})
            for layer, name in places:
                self.own[-1][layer][name] = next(found)

    def __call__(self, layer: nn.Module, *maps: Sequence[Tensor]) -> list[Tensor]:
        if isinstance(layer, nn.ReLU):
            return list(_Rectified.apply(*maps[0]))
        if isinstance(layer, Module):
            found = list(maps[0])
            for part in layer.layers:
                found = self(part, found)
            return found
        inner = [part for part in layer.modules() if part in self.own[0]]
        known = [part._parameters for part in inner]
        found = []
        try:
            for own, each in zip(self.own, zip(*maps, strict=True), strict=True):
                for part in inner:
                    part.__dict__["_parameters"] = own[part]
                found.append(layer(*each))
        finally:
            for part, parameters in zip(inner, known, strict=True):
                part.__dict__["_parameters"] = parameters
        return found


class _ForEach(torch.autograd.Function):
    """Parameters, once for each of n batches: their gradients are added up in n - 1 launches, and not in n - 1 for each parameter."""

    @staticmethod
    def forward(ctx: Any, n: int, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.n = n
        return tuple(parameter.detach() for _ in range(n) for parameter in parameters)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        each = len(gradients) // ctx.n
        rows = [gradients[i * each : (i + 1) * each] for i in range(ctx.n)]
        sums = list(rows[0])
        for row in rows[1:]:
            sums = list(torch._foreach_add(sums, row))
        return None, *sums


class _Rectified(torch.autograd.Function):
    """The ReLU of several maps, each way in a launch or two."""

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch._foreach_clamp_min(maps, 0)
        ctx.save_for_backward(*found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch._foreach_mul(torch._foreach_sign(ctx.saved_tensors), gradients))


def mirror_pad(images: Tensor, multiple: int) -> Tensor:
    """Return ``[B C *S]`` grown at the end of each axis to a multiple, by its mirror image; however small it is.

    The mirror lies beyond the outermost pixel, which is repeated (``c b a | a b c``); where the image is shorter than the
    padding, the mirror image is mirrored again.
    """
    return mirror_frame(images, 0, [-size % multiple for size in images.shape[2:]])


def mirror_frame(images: Tensor, before: int, after: Sequence[int]) -> Tensor:
    """Return ``[B C *S]`` grown by `before` pixels at the start of every axis and `after` at the end of each, mirrored.

    As in `mirror_pad`, the outermost pixel is repeated, and the mirror image is mirrored again where that is not enough.
    """
    for axis, (size, more) in enumerate(zip(images.shape[2:], after, strict=True), 2):
        if torch.jit.is_tracing() or before or more:  # a trace is of any size
            index = _mirrored if _writes_down(images) else _known_mirrored
            images = images.index_select(axis, index(size, before, more, images.device))
    return images


def _mirrored(size: int, before: int, more: int, device: torch.device) -> Tensor:
    """Return which of `size` pixels is seen at each place from `before` in front of them to `more` behind."""
    turn = torch.arange(-before, size + more, device=device) % (2 * size)
    return torch.where(turn < size, turn, 2 * size - 1 - turn)


_known_mirrored = lru_cache(64)(_mirrored)


def _writes_down(images: Tensor) -> bool:
    """Return whether operations are traced, compiled or recorded, and not computed now."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    return images.is_cuda and torch.cuda.is_current_stream_capturing()


def cut_back(images: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the part of ``[B C *s]`` that `mirror_pad` was given: ``[B C *shape]``."""
    for axis, size in enumerate(shape, 2):
        if torch.jit.is_tracing() or images.shape[axis] != size:  # a trace is of any size
            images = images.narrow(axis, 0, size)
    return images


def cut_middle(images: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the middle of ``[B C *s]``: ``[B C *shape]``."""
    for axis, size in enumerate(shape, 2):
        if images.shape[axis] != size:
            images = images.narrow(axis, (images.shape[axis] - size) // 2, size)
    return images


@torch.no_grad()
def he_init(net: nn.Module) -> None:
    """Draw every convolution's weights from N(0, sqrt(2 / N)), N the inputs that one of its outputs sums; biases are 0.

    A transposed convolution of stride s and kernel k sums ``(k / s)^D`` pixels of each input channel, not ``k^D``. He, Zhang, Ren and Sun,
    ICCV 2015, equation 10; N = 9 x 64 = 576 for a 3x3 convolution of 64 channels (Ronneberger, Fischer and Brox 2015, section 3).
    """
    for layer in net.modules():
        if (
            not isinstance(layer, CONVOLUTIONS) or layer.weight.is_meta
        ):  # meta: no values, and torch would load its compiler
            continue
        taps = math.prod(layer.kernel_size) / (math.prod(layer.stride) if layer.transposed else 1)
        layer.weight.normal_(0, math.sqrt(2 / (layer.in_channels // layer.groups * taps)))
        if layer.bias is not None:
            layer.bias.zero_()


def mean_over_symmetries(answer: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the mean of `answer` over the 8 symmetries of the square, each turned and mirrored back.

    `answer` takes ``[B C *S]`` and gives ``[B K *s]``; sides may differ by the same number of pixels on both ends. A volume is turned
    about its first axis.
    """
    answers = []
    for quarters in range(4):
        for flip in ([], [-1]):
            seen = _turned(_flipped(images, flip), quarters)
            answers.append(_flipped(_turned(answer(seen), -quarters), flip))
    return torch.stack(answers).mean(0)


def _turned(x: Tensor, quarters: int) -> Tensor:
    """Return `torch.rot90` over the last two axes, which ONNX does not have, made as torch makes it."""
    flips: list[list[int]] = [[], [-1], [-2, -1], [-2]]
    flipped = _flipped(x, flips[quarters % 4])
    return flipped.transpose(-2, -1) if quarters % 2 else flipped


def _flipped(x: Tensor, axes: list[int]) -> Tensor:
    return x.flip(axes) if axes else x
