"""Recorded networks: a pass through a network and its way back, each one launch of a GPU instead of some hundred.

A launch takes the host some 7 us, so that steps on small maps last as long as their launches. CUDA graphs record the work of a pass once
and repeat it at one launch, on the same memory each time. So a network is recorded for each form of its input anew; its parameters and
statistics stay where they are, and change there. What is computed is the same, operation by operation.
"""

import weakref
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.conv import _ConvNd

from selfseg.sample.device import is_out_of_memory

WARM = 2
"""Passes that a form of input takes as usual before it is recorded: libraries choose and load their kernels in them."""

MOST_FORMS = 8
"""Forms of input that are recorded of a network; each keeps the memory of its maps. Further ones run as usual."""


def record_networks(method: nn.Module, say: Callable[[str], None]) -> Callable[[], None]:
    """Record the passes of a method's networks from now on; return a function that ends it. `say` is called with a line where it fails."""
    networks = list(_networks_of(method))
    for network in networks:
        network._compiled_call_impl = RecordedNetwork(network, say)  # as `Module.compile` does

    def end() -> None:
        for network in networks:
            network._compiled_call_impl = None

    return end


def _networks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules that have a convolution of their own."""
    if any(isinstance(child, _ConvNd) for child in module.children()):
        yield module
        return
    for child in module.children():
        yield from _networks_of(child)


class RecordedNetwork:
    """A network whose passes are recorded, form by form of their input: those that learn, and those on the same images that do not."""

    def __init__(self, network: nn.Module, say: Callable[[str], None]) -> None:
        self.network, self.say = network, say
        self._passes: dict[Any, int] = {}
        self._recordings: dict[Any, Recording] = {}
        self._failed = False

    def __call__(self, x: Tensor, *more: Any) -> Tensor:
        """Return what the network gives for ``x``."""
        result: Tensor
        recording = self._recording(x) if all(value is None for value in more) else None
        if recording is None:
            result = self.network.forward(x, *more)
        elif recording.learns:
            result = _Replayed.apply(x, recording.anchor, recording)
        else:
            recording.run(x)
            result = recording.y.clone()  # several of them may be wanted at once
        return result

    def _recording(self, x: Tensor) -> "Recording | None":
        """Return the recording for inputs like this one; None if none was made, or it is not free."""
        learns, training = torch.is_grad_enabled(), self.network.training
        if self._failed or x.device.type != "cuda" or (learns and not training):
            return None
        kind = x.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        form = (tuple(x.shape), x.stride(), x.dtype, half)
        if not learns and not any(learned and known == form for learned, _, _, known in self._recordings):
            return None
        key = learns, training, x.requires_grad, form
        known = self._recordings.get(key)
        if known is None:
            self._passes[key] = self._passes.get(key, 0) + 1
            if self._passes[key] > WARM and len(self._recordings) < MOST_FORMS:
                known = self._recorded(x, learns, half)
            if known is None:
                return None
            self._recordings[key] = known
        return known if known.free and known.places == places_of(self.network) else None

    def _recorded(self, x: Tensor, learns: bool, half: torch.dtype | None) -> "Recording | None":
        try:
            return Recording(self.network, x, learns, half)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._failed = True
            self.say(f"a network is not recorded: {' '.join(str(error).split())[:160]}")
            return None


class Recording:
    """The graphs of one pass, forward and, where it `learns`, backward, and the memory that they read and write."""

    def __init__(self, network: nn.Module, x: Tensor, learns: bool, half: torch.dtype | None) -> None:
        self.learns, self.places = learns, places_of(network)
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(learns and x.requires_grad)
        self._under_way: weakref.ref[UnderWay] | None = None
        autocast = torch.autocast("cuda", half, enabled=half is not None, cache_enabled=False)
        with autocast, torch.cuda.graph(self.forward, capture_error_mode="thread_local"):
            y = network.forward(self.x)
        self.y = y.detach()
        if learns:
            self._record_way_back(network, y)

    def _record_way_back(self, network: nn.Module, y: Tensor) -> None:
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        inputs = [self.x, *learned] if self.x.requires_grad else learned
        self.anchor = torch.zeros((), device=y.device, requires_grad=True)  # lets the result have a gradient
        self.y_gradient = torch.empty_like(self.y)
        with torch.cuda.graph(self.backward, pool=self.forward.pool(), capture_error_mode="thread_local"):
            found = list(torch.autograd.grad(y, inputs, self.y_gradient, allow_unused=True))
        self.x_gradient = found.pop(0) if self.x.requires_grad else None
        pairs = [(p, gradient) for p, gradient in zip(learned, found, strict=True) if gradient is not None]
        self.parameters, self.gradients = [p for p, _ in pairs], [gradient for _, gradient in pairs]

    @property
    def free(self) -> bool:
        """True if no forward pass still waits for its backward pass: its maps are still needed."""
        return self._under_way is None or self._under_way() is None

    def begin(self) -> "UnderWay":
        """Return what stands for a pass for as long as it can come back."""
        one = UnderWay()
        self._under_way = weakref.ref(one)
        return one

    @torch.no_grad()
    def run(self, x: Tensor) -> None:
        """Compute `y` of an input."""
        self.x.copy_(x)
        self.forward.replay()

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add what the way back gave to the gradients of the parameters."""
        pairs = list(zip(self.parameters, self.gradients, strict=True))
        begun = [(p.grad, gradient) for p, gradient in pairs if p.grad is not None]
        new = [(p, gradient) for p, gradient in pairs if p.grad is None]
        if begun:
            torch._foreach_add_([total for total, _ in begun], [gradient for _, gradient in begun])
        copies = torch._foreach_mul([gradient for _, gradient in new], 1.0) if new else ()
        for (parameter, _), copy in zip(new, copies, strict=True):
            parameter.grad = copy


def places_of(network: nn.Module) -> tuple[int, ...]:
    """Return where a network's parameters and statistics lie: a recording is good for these alone."""
    return tuple(tensor.data_ptr() for tensor in chain(network.parameters(), network.buffers()))


class UnderWay:
    """A pass that can still come back: held by the graph of autograd."""


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, recording: Recording) -> Tensor:
        recording.run(x)
        ctx.recording, ctx.under_way = recording, recording.begin()
        return recording.y.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        if ctx.under_way is None:
            raise RuntimeError("a recorded pass comes back once")
        recording: Recording = ctx.recording
        recording.y_gradient.copy_(gradient)
        recording.backward.replay()
        recording.add_gradients()
        ctx.under_way = None
        return recording.x_gradient, None, None
