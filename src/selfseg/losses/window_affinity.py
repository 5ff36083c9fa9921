"""Weights between each pixel or voxel and those in a ball around it: near in space and alike in value."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.core.threads import run_shared
from selfseg.losses._lines import as_lines, runs_kernels, runs_triton
from selfseg.losses._valid import check_pixels
from selfseg.losses.affinity import Affinity, Forms

Offsets = list[tuple[tuple[int, ...], float]]

MIN_PARALLEL_SIZE = 1_000_000  # pairs of pixels times classes below which one thread is done before two have met
AUTO_FACTOR = 3.0  # times the median step: 10 on photographs in 0..255 (BSDS500: 3.3), the constant of the paper


def window_affinity(
    image: Tensor,
    radius: float = 5.0,
    sigma_intensity: float | Literal["auto"] = 10.0,
    sigma_space: float = 4.0,
    spacing: Sequence[float] | None = None,
    valid: Tensor | None = None,
) -> "WindowAffinity":
    r"""Return the affinity of the soft normalised cut between the pixels of each image of a batch.

    .. math:: w_{uv} = \exp\left(-\frac{|F_u - F_v|^2}{\sigma_I^2} - \frac{|X_u - X_v|^2}{\sigma_X^2}\right)
              \text{ if } |X_u - X_v| < r, \text{ else } 0

    Strictly less than r, so ``w(u, u) = 1`` and r = 5 gives 69 pixels. Beyond the border there is nothing.

    Parameters
    ----------
    image
        F ``[B C *S]``, ``*S`` = (Y X) or (Z Y X): grey values or vectors of C values, finite where `valid`.
    radius
        r, in pixels, or in the unit of `spacing`.
    sigma_intensity
        :math:`\sigma_I`, in the unit of the image; the paper's 10 is for 0..255. "auto": three times the median step between
        neighbouring pixels (the mean where half of the steps are 0), for each image: 10 on a usual photograph in 0..255.
    sigma_space
        :math:`\sigma_X`, in pixels, or in the unit of `spacing`.
    spacing
        Distance between pixels along each axis of ``*S``; None = 1.
    valid
        ``[B *S]`` bool; a pixel that is False has weight 0 to everything, itself included. None = all count.

    Returns
    -------
    WindowAffinity
        For `probabilities` ``[B K *S]``, or ``[any K *S]`` if B = 1.

    Raises
    ------
    UsageError
        If a shape or a number is none of these.

    References
    ----------
    Xia and Kulis, "W-Net", arXiv 1711.08506, section 3.3.
    """
    if image.ndim not in (4, 5) or min(image.shape) < 1:
        got = str(tuple(image.shape))
        raise UsageError("image", expected="shape (B, C, Y, X) or (B, C, Z, Y, X)", got=got, fix="add axes")
    check_pixels("valid", valid, image)
    distances = tuple(float(s) for s in spacing) if spacing is not None else (1.0,) * (image.ndim - 2)
    if len(distances) != image.ndim - 2:
        fix = "give one for each spatial axis"
        raise UsageError("spacing", expected=f"{image.ndim - 2} numbers", got=f"{len(distances)}", fix=fix)
    numbers = {
        "radius": radius,
        "sigma_space": sigma_space,
        "spacing": min(distances),
        "largest spacing": max(distances),
    }
    if sigma_intensity != "auto":
        numbers["sigma_intensity"] = sigma_intensity
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise UsageError(name, expected="a number above 0", got=f"{number}", fix="see window_affinity")
    image = image.detach() if image.dtype in (torch.float32, torch.float64) else image.detach().float()
    if valid is not None:
        image = image.where(valid.unsqueeze(1), image.new_zeros(()))
    if not _finite(image):
        raise UsageError("image", expected="finite values", got="NaN or infinity", fix="mark such pixels in `valid`")
    if sigma_intensity == "auto":
        sigma = torch.stack([_auto_sigma(F, None if valid is None else valid[b]) for b, F in enumerate(image)])
    else:
        sigma = torch.full((len(image),), float(sigma_intensity), dtype=torch.float64)
    return WindowAffinity(image, list(_half_window(radius, distances)), sigma, sigma_space, valid)


def _finite(image: Tensor) -> bool:
    if image.device.type == "cpu":  # in NumPy: torch would wake its threads for it, which a busy machine makes wait
        return bool(np.isfinite(image.numpy()).all())
    return bool(image.isfinite().all())


def _half_window(radius: float, spacing: tuple[float, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield each offset within the radius that points forward, one of each pair, in order, with its squared length."""
    reaches = [range(-math.ceil(radius / s), math.ceil(radius / s) + 1) for s in spacing]
    for offset in product(*reaches):
        squared = sum((n * s) ** 2 for n, s in zip(offset, spacing, strict=True))
        if squared < radius**2 and offset > (0,) * len(offset):
            yield offset, squared


def _auto_sigma(image: Tensor, valid: Tensor | None) -> Tensor:
    """Return sigma_I of one image ``[C *S]``, float64; see `window_affinity`."""
    steps = []
    for axis in range(1, image.ndim):
        step = image.diff(dim=axis).double().square().sum(0).sqrt()
        if valid is not None:
            n = step.shape[axis - 1]
            step = step[valid.narrow(axis - 1, 0, n) & valid.narrow(axis - 1, 1, n)]
        steps.append(step.flatten())
    every = torch.cat(steps)
    if every.numel() == 0 or not bool(every.any()):
        return torch.ones((), dtype=torch.float64, device=image.device)
    median = every.median()
    return AUTO_FACTOR * (median if float(median) > 0 else every.mean())


class WindowAffinity(Affinity):
    """See `window_affinity`. Weights are computed again at each call: that takes less time than to read them back.

    Parameters
    ----------
    image
        ``[B C *S]``, finite.
    offsets
        Half of the window, one offset of each pair, with its squared length.
    sigma_intensity
        ``[B]`` float64.
    sigma_space
        In the unit of the offsets' lengths.
    valid
        ``[B *S]`` bool, or None.
    """

    def __init__(
        self, image: Tensor, offsets: Offsets, sigma_intensity: Tensor, sigma_space: float, valid: Tensor | None
    ) -> None:
        self.shape = (image.shape[0], *image.shape[2:])
        self._image, self._valid = image, valid
        sizes = self.shape[1:]
        inside = [o for o in offsets if all(abs(n) < size for n, size in zip(o[0], sizes, strict=True))]
        self._offsets = [(offset, squared / sigma_space**2) for offset, squared in inside]
        self.sigma_intensity = sigma_intensity
        self._degrees: dict[torch.dtype, Tensor] = {}
        self._window: Any = None

    def apply(self, probabilities: Tensor) -> Tensor:
        """Return ``W p``, ``[B K *S]``."""
        self.check(probabilities)
        if runs_kernels(probabilities) or runs_triton(probabilities):
            return self.forms(probabilities).products
        return self._apply_by_offsets(probabilities.detach())

    def degrees(self, dtype: torch.dtype) -> Tensor:
        """Return ``d_u``, ``[B *S]``; they are kept."""
        if dtype not in self._degrees:
            ones = self._image.new_ones((self.shape[0], 1, *self.shape[1:]), dtype=dtype)
            self._degrees[dtype] = self.apply(ones)[:, 0]
        return self._degrees[dtype]

    def forms(self, probabilities: Tensor) -> Forms:
        """Return ``W p``, ``p . W p`` and ``p . d``: of float32 maps in one pass, on a CPU and, with Triton, on a GPU."""
        self.check(probabilities)
        if not runs_kernels(probabilities) and not runs_triton(probabilities):
            return super().forms(probabilities)
        fused = self._fused if runs_kernels(probabilities) else self._fused_on_gpu
        if len(probabilities) == self.shape[0]:
            return fused(probabilities)
        each = [fused(p) for p in torch.split(probabilities, 1)]
        return Forms(*(torch.cat(parts) for parts in zip(*each, strict=True)))

    def _fused(self, probabilities: Tensor) -> Forms:
        from selfseg.losses import _ncut_kernels as kernels

        known = self._degrees.get(torch.float32)
        degrees = torch.empty(self.shape) if known is None else known
        if self._window is None:
            self._window = self._lay_out()
        products = torch.empty_like(probabilities, memory_format=torch.preserve_format)
        source, target = as_lines(probabilities), as_lines(products)
        arguments = source.values, source.strides, probabilities.shape[1], target.values, degrees.view(-1).numpy()
        n = len(probabilities) * source.per_image
        work = probabilities.numel() * len(self._offsets)
        parts = run_shared(
            kernels.window_products,
            n,
            self._window,
            *arguments,
            known is not None,
            parts=1 if work < MIN_PARALLEL_SIZE else None,
        )
        self._degrees[torch.float32] = degrees
        association, volume = torch.from_numpy(np.sum(parts, axis=0))
        return Forms(products, association, volume)

    def _fused_on_gpu(self, probabilities: Tensor) -> Forms:
        from selfseg.losses import _ncut_triton as kernels

        if self._window is None:
            log2e, device = 1 / math.log(2), probabilities.device
            half = [((0, 0, *offset)[-3:], fall) for offset, fall in self._offsets]
            whole = [((0, 0, 0), 0.0), *half, *((tuple(-n for n in offset), fall) for offset, fall in half)]
            taps, falls = zip(*whole, strict=True)
            scale = (log2e * self.sigma_intensity.square().reciprocal()).float().to(device)
            self._window = (
                torch.tensor(taps, dtype=torch.int32, device=device),
                log2e * torch.tensor(falls).to(device),
                scale,
            )
        image = self._image.float()
        products, degrees, forms = kernels.window_products(image, self._valid, probabilities.detach(), *self._window)
        self._degrees[torch.float32] = degrees
        return Forms(products, forms[0], forms[1])

    def _lay_out(self) -> Any:
        """Return the image and its window as the kernels' `Window`."""
        from selfseg.losses._window import lay_out

        B, C = self._image.shape[:2]
        Z, Y, X = (1, *self.shape[1:])[-3:]
        fall = np.array([fall for _, fall in self._offsets], np.float64) / math.log(2)
        valid = np.empty(0, np.float32) if self._valid is None else self._valid.float().reshape(-1).numpy()
        scale = (self.sigma_intensity.square().reciprocal() / math.log(2)).float().numpy()
        image = self._image.float().contiguous().view(-1).numpy()
        offsets = [(0, *offset)[-3:] for offset, _ in self._offsets]
        return lay_out(image, valid, scale, offsets, fall.astype(np.float32), (B, C, Z, Y, X))

    def _apply_by_offsets(self, p: Tensor) -> Tensor:
        """Return ``W p`` offset by offset, for any device and precision; of W one offset at a time is held."""
        image, scale = self._image.to(p.dtype), self.sigma_intensity.to(p).square().reciprocal()
        valid = None if self._valid is None else self._valid.unsqueeze(1)
        zero = p.new_zeros(())
        p = p if valid is None else p.where(valid, zero)
        products = p.clone()
        for offset, fall in self._offsets:
            here, there = _views(offset)
            squared = (image[here] - image[there]).square().sum(1, keepdim=True)  # [B 1 *S']
            w = (squared * -scale.view(-1, *(1,) * (p.ndim - 1)) - fall).exp()
            products[here].addcmul_(w, p[there])
            products[there].addcmul_(w, p[here])
        return products if valid is None else products.where(valid, zero)


def _views(offset: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the indices of all pixels ``[B K *S]`` that have a partner at `offset`, and of these partners."""
    every = slice(None)
    here = tuple(slice(max(-n, 0), -n if n > 0 else None) for n in offset)
    there = tuple(slice(max(n, 0), n if n < 0 else None) for n in offset)
    return (every, every, *here), (every, every, *there)
