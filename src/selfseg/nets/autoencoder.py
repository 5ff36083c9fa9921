"""The autoencoder of deep k-means: a small U-Net with strided convolutions, a shallow residual decoder, or the user's own two.

A network of your own is a module that Python can import, with two functions:

    def encoder(n_channels: int, n_features: int, n_dims: int) -> nn.Module: ...   # [B C *S] -> [B F *S]
    def decoder(n_features: int, n_channels: int, n_dims: int) -> nn.Module: ...   # [B F *S] -> [B C *S]

Importing runs code, so it is done only for a name that the user gave: in the options, or again when a stored model is loaded.
A model folder alone never makes Python import anything.
"""

import contextlib
import importlib
import itertools
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.core.errors import ModelError, UsageError
from selfseg.nets.norms import give_unit_variance, moments
from selfseg.nets.unet import CONVOLUTION, CONVOLUTIONS, TRANSPOSED, cut_back, mirror_pad

START = 0.1
"""Factor of the decoder's last weights at the start: the rebuilt image is then nearly its mean."""

PROTOCOL = "encoder(n_channels, n_features, n_dims) and decoder(n_features, n_channels, n_dims)"

_named_again: ContextVar[str | None] = ContextVar("named_again", default=None)
_reading: ContextVar[bool] = ContextVar("reading", default=False)


class StridedUNet(nn.Module):
    """Halve the size `depth` times and come back, joining each level with its equal: ``[B C *S]`` to ``[B F *S]``, any size.

    Convolutions of 3x3 with ReLU and without normalisation; `width` channels, doubled at each level. `rectified`: features end with
    a ReLU. With one channel in, 64 features out, width 8 and depth 2 it has 23,256 parameters.
    """

    def __init__(
        self, n_in: int, n_out: int, width: int = 8, depth: int = 2, n_dims: int = 2, rectified: bool = False
    ) -> None:
        super().__init__()
        kind, turned = CONVOLUTION[n_dims], TRANSPOSED[n_dims]
        widths = [width * 2**level for level in range(depth + 1)]
        self.multiple = 2**depth
        self.halo = 8 * self.multiple  # more than the 5 multiples that the layers of all levels reach together
        self.rectified = rectified
        self.down = nn.ModuleList([kind(n_in, width, 3, padding=1)])
        self.strided, self.grow, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for narrow, wide in itertools.pairwise(widths):
            self.strided.append(kind(narrow, narrow, 3, stride=2, padding=1))
            self.down.append(kind(narrow, wide, 3, padding=1))
        for level in reversed(range(depth)):
            narrow, wide = widths[level], widths[level + 1]
            self.grow.append(turned(wide, narrow, 3, stride=2, padding=1, output_padding=1))
            after = [kind(wide, narrow, 3, padding=1)]
            if level:  # the outermost level has one convolution, and the head follows
                after += [nn.ReLU(), kind(narrow, narrow, 3, padding=1)]
            self.join.append(nn.Sequential(*after))
        self.head: nn.Module = kind(width, n_out, 1)
        he_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``[B F *S]``."""
        x = mirror_pad(images, self.multiple)
        skips = []
        for level, layer in enumerate(self.down):
            x = F.relu(layer(x if level == 0 else F.relu(self.strided[level - 1](x))))
            skips.append(x)
        skips.pop()
        for grow, join in zip(self.grow, self.join, strict=True):
            x = F.relu(join(torch.cat([skips.pop(), F.relu(grow(x))], dim=1)))
        features = cut_back(self.head(x), images.shape[2:])
        return F.relu(features) if self.rectified else features


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with ReLU, added to what came in (He et al. 2016)."""

    def __init__(self, width: int, n_dims: int) -> None:
        super().__init__()
        kind = CONVOLUTION[n_dims]
        self.layers = nn.Sequential(
            kind(width, width, 3, padding=1), nn.ReLU(), kind(width, width, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B W *S]`` of ``[B W *S]``."""
        y: Tensor = x + self.layers(x)
        return y


class ResidualDecoder(nn.Module):
    """One convolution, residual blocks, a 1x1 convolution (`rectified`: and a ReLU): ``[B F *S]`` to ``[B C *S]``.

    With 64 features in, one channel out, width 8 and 3 blocks it has 8,129 parameters.
    """

    def __init__(
        self, n_in: int, n_out: int, width: int = 8, blocks: int = 3, n_dims: int = 2, rectified: bool = False
    ) -> None:
        super().__init__()
        kind = CONVOLUTION[n_dims]
        self.rectified = rectified
        self.enter = kind(n_in, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width, n_dims) for _ in range(blocks)))
        self.head: nn.Module = kind(width, n_out, 1)
        he_normal(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return the rebuilt images ``[B C *S]``."""
        rebuilt: Tensor = self.head(self.blocks(F.relu(self.enter(features))))
        return F.relu(rebuilt) if self.rectified else rebuilt


@torch.no_grad()
def start_near(encoder: nn.Module, decoder: nn.Module, images: Tensor, valid: Tensor | None) -> None:
    """Scale the last layers so that features begin with variance 1, and rebuilt images with the mean of the images.

    Otherwise the first hundred steps only learn that mean. Features behind a ReLU are left as they are, and so are networks of
    the user's own.
    """
    if not (isinstance(encoder, StridedUNet) and isinstance(decoder, ResidualDecoder)):
        return
    if not encoder.rectified:
        give_unit_variance(encoder.head, encoder(images))
    decoder.head.get_parameter("weight").mul_(START)
    decoder.head.get_parameter("bias").copy_(moments(images, valid)[0])


def he_normal(net: nn.Module) -> None:
    """Start convolutions with the variance that keeps that of their input through a ReLU (He et al. 2015), biases at 0."""
    for module in net.modules():
        if isinstance(module, CONVOLUTIONS):
            nn.init.kaiming_normal_(module.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(module.get_parameter("bias"))


@contextlib.contextmanager
def options_from_file(networks: str | None) -> Iterator[None]:
    """Within the block, options come out of a file: only the module that the user named again as `networks` may be imported."""
    reading, named = _reading.set(True), _named_again.set(networks)
    try:
        yield
    finally:
        _reading.reset(reading)
        _named_again.reset(named)


def own_networks(name: str, n_channels: int, n_features: int, n_dims: int) -> tuple[nn.Module, nn.Module]:
    """Import the module called `name` and make its encoder and decoder, for C channels, F features, and 2 or 3 axes.

    `UsageError` if the module cannot be imported, lacks a function, or a network does not keep the size or the channels. `ModelError` if
    the name comes out of a model folder and the user did not give it again.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
        raise UsageError(
            "networks", expected="the name of a module", got=repr(name), fix="write it as package.module, without .py"
        )
    if _reading.get() and _named_again.get() != name:
        raise ModelError(
            "networks",
            expected="a model without code of its own",
            got=f"one that needs the module {name!r}, which would be run",
            fix=f"if you trust it, name it again: --networks {name}, or load(..., networks={name!r})",
        )
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"networks {name}",
            expected="a module to import",
            got=str(error),
            fix="start Python where it is found, for example with PYTHONPATH=.",
        ) from error
    encoder = _made(name, module, "encoder", (n_channels, n_features, n_dims))
    decoder = _made(name, module, "decoder", (n_features, n_channels, n_dims))
    return encoder, decoder


def _made(name: str, module: object, function: str, numbers: tuple[int, int, int]) -> nn.Module:
    make: Callable[..., object] | None = getattr(module, function, None)
    made: object = None
    if callable(make):
        try:
            made = make(*numbers)
        except TypeError as error:
            raise UsageError(
                f"networks {name}, {function}", expected=PROTOCOL, got=str(error), fix="give it these three arguments"
            ) from error
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"networks {name}",
            expected=f"{PROTOCOL}, each giving an nn.Module",
            got="no such function" if make is None else f"{type(made).__name__} from {function}",
            fix="add it",
        )
    n_in, n_out, n_dims = numbers
    wanted = (1, n_out, *(7, 6, 5)[:n_dims])
    training = made.training
    with torch.no_grad():
        try:
            out: Tensor | str = made.eval()(torch.zeros(1, n_in, *wanted[2:]))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            out = str(error)
    made.train(training)
    if not isinstance(out, Tensor) or tuple(out.shape) != wanted:
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else str(out)
        what = f"networks {name}, {function}"
        raise UsageError(
            what,
            expected=f"shape {wanted} of {(1, n_in, *wanted[2:])}",
            got=got,
            fix="keep the size of any image, for example by padding",
        )
    return made
