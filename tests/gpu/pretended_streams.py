"""Streams that are pretended: a copy beside the work out of pinned memory is done when somebody waits for its stream, and is NaN before.

On a real card it would be done at any time in between. One that is not waited for shows in what is computed.
"""

import contextlib
import threading

import torch
from torch.utils._python_dispatch import _disable_current_modes


class Streams:
    """The streams of one device, and the copies that were asked for beside the work: pinned memory, without waiting."""

    def __init__(self):
        self._own, self.beside, self.recorded = threading.local(), 0, 0

    @property
    def inside(self):
        """The stream that this thread works in; None = the usual one."""
        return getattr(self._own, "inside", None)

    @contextlib.contextmanager
    def within(self, stream):
        """Takes the place of `torch.cuda.stream`."""
        before, self._own.inside = self.inside, stream
        try:
            yield
        finally:
            self._own.inside = before

    def facts(self):
        """Return what takes the place of functions of `torch.cuda`."""
        return {"Stream": Stream, "stream": self.within, "current_stream": Stream}

    def methods(self):
        """Return what takes the place of methods of tensors."""

        def pin_memory(tensor):
            assert tensor.is_cpu, f"cannot pin a tensor of {tensor.device}"
            out = tensor.clone()
            out.untyped_storage().pinned = True
            return out

        def record_stream(tensor, stream):
            assert not tensor.is_cpu
            self.recorded += 1

        return {"pin_memory": pin_memory, "record_stream": record_stream}

    def copied(self, source, out, non_blocking):
        """Put a copy off, if it may run beside the work."""
        if not (non_blocking and self.inside is not None and hasattr(source.untyped_storage(), "pinned")):
            return
        self.beside += 1
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            self.inside.coming.append((out, source))
            out.fill_(torch.nan)


class Stream:
    """Takes the place of `torch.cuda.Stream`."""

    def __init__(self, device=None):
        self.coming = []

    def wait_stream(self, other):
        """What is computed here from now on waits for what was begun there."""
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            for out, source in other.coming:
                out.copy_(source)
        other.coming.clear()
