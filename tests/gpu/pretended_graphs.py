"""CUDA graphs that are pretended: operations are noted while a graph is captured, and done again, on the same memory, at each replay.

As on a real card nothing is computed while a graph is captured (what it changed is put back), the host may neither wait nor copy then,
and a replay is one launch.
"""

import contextlib

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves


def tensors_in(values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


FORBIDDEN = "operation not permitted when stream is capturing"


class Graph:
    """Takes the place of `torch.cuda.CUDAGraph`."""

    gpu = None

    def __init__(self, keep_graph=False):
        self.steps, self.made, self.before = [], set(), {}

    def pool(self):
        return id(self)

    def note(self, func, args, kwargs):
        """Keep the values of what an operation is about to change, if it was there before the capture."""
        if (
            not func._schema.is_mutable and "batch_norm" not in func._schema.name
        ):  # the latter's schema hides what it changes
            return
        for tensor in tensors_in((args, kwargs)):
            storage = tensor.untyped_storage()
            key = storage.data_ptr()
            if key not in self.made and key not in self.before:
                self.before[key] = (storage, storage.clone())

    def add(self, func, args, kwargs, out):
        """Keep an operation with what it was given and what it made."""
        outs = tensors_in(out)
        self.steps.append((func, args, kwargs, outs))
        if not func.is_view and not func._schema.is_mutable:
            self.made.update(one.untyped_storage().data_ptr() for one in outs)

    def replay(self):
        self.gpu.launches["replay of a graph"] += 1
        with torch._C.DisableTorchFunction(), _disable_current_modes(), torch.no_grad():
            for func, args, kwargs, outs in self.steps:
                found = func(*args, **kwargs)
                if func._schema.is_mutable or func.is_view:
                    continue
                for old, value in zip(outs, tensors_in(found), strict=True):
                    if old.numel():
                        old.copy_(value)


@contextlib.contextmanager
def capturing(gpu, graph, pool=None, stream=None, capture_error_mode="global"):
    """Takes the place of `torch.cuda.graph`."""
    assert gpu.graph is None, FORBIDDEN
    figures = gpu.launches.copy(), gpu.copies.copy()
    gpu.graph = graph
    try:
        yield
    finally:
        gpu.graph = None
        gpu.launches, gpu.copies = figures
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            for storage, values in graph.before.values():
                storage.copy_(values)


def refuse_if_capturing(gpu, what):
    """Fail where a real card would: the host waits or copies while a graph is captured."""
    if gpu.graph is not None:
        raise RuntimeError(f"CUDA error: {FORBIDDEN} ({what})")
