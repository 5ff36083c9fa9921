"""The device: which one works here, its digits and its memory; and how a run computes on it, decided once, printed, stored with it."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from selfseg.core.errors import SelfsegError, TrainingError, UsageError
from selfseg.core.machine import free_memory, own_rank

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Precision:
    """How the loop runs a step: on which device, with matrix work in half precision under autocast or not (parameters and optimiser stay
    float32).

    `channels_last` is the memory order of images and convolution weights; `compiled`: networks are compiled with ``torch.compile``.
    """

    device: torch.device
    bf16: bool
    channels_last: bool
    compiled: bool
    recorded: bool = False
    """Passes of networks are recorded (`train.recording`)."""
    fp16: bool = False
    """Half precision is float16, whose small range needs losses that are scaled, and not bfloat16."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which losses are computed."""
        if not self.bf16 and not self.fp16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.float16 if self.fp16 else torch.bfloat16)

    def place(self, method: nn.Module) -> None:
        """Move a method to the device, in the memory order."""
        move(method, self.device)
        for network in method.children():
            if self.channels_last:
                for parameter in network.parameters():
                    if parameter.ndim == 4:
                        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def compile(self, method: nn.Module) -> None:
        """Compile a method's networks."""
        for network in method.children():
            network.compile()

    def release_compiled(self, method: nn.Module) -> None:
        """Let a method's networks run as they are written."""
        for network in method.children():
            network._compiled_call_impl = None  # what `Module.compile` has set

    def release(self, method: nn.Module) -> None:
        """Put weights back into the plain memory order, and let networks run as they are written: a model computes the same before and
        after storing."""
        self.release_compiled(method)
        for parameter in method.parameters():
            parameter.data = parameter.data.contiguous()

    def describe(self) -> str:
        """Return one phrase for the user."""
        kind = "float16 autocast" if self.fp16 else "bfloat16 autocast" if self.bf16 else "float32"
        chosen = {"channels last": self.channels_last, "compiled": self.compiled, "recorded": self.recorded}
        return ", ".join([str(self.device), kind, *(name for name, wanted in chosen.items() if wanted)])


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether matrix products in bfloat16 run in hardware (AVX512-BF16, AMX, a GPU), not in emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, check)()) for check in checks if hasattr(torch.cpu, check))
    return False


def choose_precision(
    method: Any,
    device: torch.device,
    n_steps: int,
    compiled: bool | None = None,
    asked: str | None = None,
    recorded: bool = False,
) -> Precision:
    """Return how steps are run on `device` for a schedule of `n_steps`: in float32 unless a lower precision is requested.

    `compiled` compiles the networks, where it is expected to pay (`train.compiling`); None = not, since nothing was measured on a GPU yet
    (`benchmarks/gpu.sh` does). `asked` is ``float32``, ``bfloat16`` or ``float16``, None = the method's option `precision`. bfloat16 is
    used where the hardware has it: elsewhere it is several times slower than float32. In 3D on a CPU it is not used: weight gradients are
    not always finite (torch 2.13; EXPERIMENTS.md). float16 is for CUDA GPUs that have no bfloat16. Channels lie last but on a GPU with
    group norms: torch copies a map into the other order before each of these there, and the next convolution copies it back.

    Raises
    ------
    UsageError
        If `asked` is none of these, or float16 on another device than a CUDA GPU.
    """
    wanted = asked or method.config.precision
    known = PRECISIONS if device.type == "cuda" else PRECISIONS[:2]
    if wanted not in known:
        raise UsageError(
            f"precision on {device}", expected=" or ".join(known), got=repr(wanted), fix="leave it out for float32"
        )
    sound = device.type != "cpu" or method.n_dims < 3
    bf16 = wanted == "bfloat16" and sound and has_fast_bf16(device)
    groups = any(isinstance(part, nn.GroupNorm) for part in method.modules())
    last = device.type == "cpu" or (device.type == "cuda" and not groups)
    return Precision(device, bf16, last, compiled=bool(compiled), recorded=recorded, fp16=wanted == "float16")


@cache
def fault_of(device: torch.device) -> str | None:
    """Return why nothing can be computed on a device, by launching something; None = it works."""
    try:
        torch.ones(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0][:160]
    return None


def choose_device(asked: str = "auto") -> torch.device:
    """Return the device to work on, ``auto`` = a CUDA GPU that works, else the CPU; under torchrun the GPU of this process.

    `UsageError` if the requested one does not exist here, or nothing can be computed on it.
    """
    if asked == "auto":
        gpu = _own_gpu()
        return torch.device("cpu") if gpu is None or fault_of(gpu) else gpu
    try:
        device = torch.device(asked)
        if device == torch.device("cuda"):
            device = _own_gpu() or device
        fault = fault_of(device)
    except RuntimeError as error:
        fault = str(error).splitlines()[0][:160]
    if fault is None:
        return device
    raise UsageError(
        "device",
        expected="auto, cpu, cuda, cuda:N or mps, present here",
        got=f"{asked!r} ({fault})",
        fix="see `selfseg doctor`, or try --device cpu",
    )


def device_note(asked: str) -> str | None:
    """Return a line where ``auto`` takes the CPU although there is a GPU; None otherwise."""
    gpu = _own_gpu() if asked == "auto" else None
    fault = None if gpu is None else fault_of(gpu)
    return fault and f"{gpu} is not used, as nothing can be computed on it ({fault}): see `selfseg doctor`"


def device_in_turn(asked: str, number: int) -> str:
    """Return the device for process `number` of several on a machine, from 0: where any GPU may be taken, each takes one in turn."""
    if asked not in ("auto", "cuda") or choose_device(asked).type != "cuda":
        return asked
    return f"cuda:{number % torch.cuda.device_count()}"


def _own_gpu() -> torch.device | None:
    """Return the CUDA GPU of this process: its own where torchrun has started several, else the current one."""
    if not torch.cuda.is_available():
        return None
    place = own_rank()
    index = place.local_rank % torch.cuda.device_count() if place.world > 1 else torch.cuda.current_device()
    return torch.device("cuda", index)


def has_float64(device: torch.device) -> bool:
    """Return whether a device can compute in float64; Apple's cannot."""
    return device.type != "mps"


def most_digits(device: torch.device) -> torch.dtype:
    """Return the floating type with most digits that a device can compute in."""
    return torch.float64 if has_float64(device) else torch.float32


def with_most_digits(values: Tensor) -> Tensor:
    """Return values in float64, or in float32 on a device that has no more."""
    return values.to(most_digits(values.device))


def move(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a module to a device; what is float64 becomes float32 on a device that has no more. Return the module."""
    if not has_float64(device):
        for part in module.modules():
            for name, value in part.named_buffers(recurse=False):
                if value.dtype == torch.float64 and name not in getattr(part, "on_host", ()):
                    setattr(part, name, value.float())
    return module.to(device)


def fused(device: torch.device) -> dict[str, Any]:
    """Return the argument by which an optimiser of torch changes all parameters in one launch, where a device has that."""
    return {"fused": True} if device.type == "cuda" else {}


class KeepsCounters(nn.Module):
    """A module of which some buffers stay on the host wherever it is moved: what the host decides by, read without waiting for a device."""

    on_host: ClassVar[tuple[str, ...]] = ()
    """Names of these buffers, of this module itself."""

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        kept = {name: self._buffers[name] for name in self.on_host}
        super()._apply(fn, recurse)
        self._buffers.update(kept)
        return self


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 in float32 within the block: no autocast, and no TF32, which keeps ten bits of a factor."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextlib.contextmanager
def in_fixed_order(wanted: bool) -> Iterator[None]:
    """Within the block, if `wanted`, use only operations that give the same bytes each time; `UsageError` at one that does not."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise UsageError(
            "--deterministic",
            expected="operations that give the same bytes each time",
            got=str(error).split(",")[0].split(". ")[0][:160],
            fix="leave it out, or use --device cpu",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)


class OnItsWay:
    """Values that are copied to a CUDA GPU beside what is computed there: out of pinned memory, in a stream of their own."""

    def __init__(self, values: Tensor, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        pinned = values.pin_memory()  # torch keeps it until it was copied
        with torch.cuda.stream(self._stream):
            self._there = pinned.to(device, non_blocking=True)

    def arrived(self) -> Tensor:
        """Return them on the GPU: what is computed with them waits for the copy, the host does not."""
        now = torch.cuda.current_stream(self._there.device)
        now.wait_stream(self._stream)
        self._there.record_stream(now)
        return self._there


def free_on(device: torch.device | None) -> int:
    """Return the free memory of a device in bytes: what torch keeps there for its next tensors is free too."""
    if device is None or device.type != "cuda":
        return free_memory()
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + int(kept)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a tensor found no memory, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = ("out of memory", "not enough memory", "can't allocate memory")  # of Apple's GPUs, and of a CPU
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


@contextlib.contextmanager
def naming_lack_of_memory(
    what: str, device: torch.device, fix: str, kind: type[SelfsegError] = TrainingError
) -> Iterator[None]:
    """Raise an error of one line where a tensor finds no memory within the block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        give_back(device)
        raise kind(f"{what} on {device}", expected="memory enough", got="too little", fix=fix) from error


def give_back(device: torch.device) -> None:
    """Give the memory that torch keeps on a GPU back to the driver."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
