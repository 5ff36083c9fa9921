"""A GPU that is not there: tensors on the CPU that say ``cuda:0``, and fail where real ones would.

``with PretendedGPU() as gpu:`` gives real values, real autograd and real control flow. What was put on the device, and all that is
computed from it, says that it lies there. As on a real one it is an error to mix devices, to hand such a tensor to NumPy, to make
float64 where the device has none (Apple's), and to take more memory than there is. It counts, by file and line of selfseg, how often
the host waits (`waits`), what is copied to and fro (`copies`), and what is launched (`launches`).

It is no GPU: it says nothing about speed, about rounding, about kernels of Triton, or about what a driver does.
"""

import contextlib
import math
import sys
import threading
from collections import Counter
from functools import partial

import torch
import torch._dynamo  # its table of torch's functions must be of those that are not patched
from pretended_graphs import Graph, capturing, refuse_if_capturing, tensors_in
from pretended_streams import Streams
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from selfseg.kernels import on_gpu
from selfseg.sample.device import fault_of

HOST = torch.device("cpu")

WAITING = {
    *("_local_scalar_dense", "nonzero", "bincount", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"),
    *("unique_consecutive", "repeat_interleave", "_coalesce", "_linalg_eigh", "histc", "item"),
}
"""Operations whose result the host needs before it can go on."""

NO_LAUNCH = {"_local_scalar_dense", "item", "equal", "is_nonzero"}

COPYING = {"copy_", "_to_copy", "_copy_from"}

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""These take indices from the host, and copy them."""

ANY_ORDER = {
    *("avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"),
    *("adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"),
    *("max_unpool2d", "max_unpool3d", "upsample_linear1d_backward", "upsample_bilinear2d_backward"),
    *("upsample_bicubic2d_backward", "upsample_trilinear3d_backward", "reflection_pad1d_backward"),
    *("reflection_pad2d_backward", "reflection_pad3d_backward", "nll_loss_forward", "nll_loss2d_forward", "put_"),
    *("histc", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "_ctc_loss_backward", "median.dim"),
    *("bincount.weights", "cumsum.floating", "scatter_reduce.prod", "_sparse_addmm", "_sparse_mm", "addmm.sparse"),
}
"""Operations of a CUDA device that `torch.use_deterministic_algorithms` lists as refused; and sparse products, of which it says nothing."""

PRODUCTS = {"convolution", "convolution_backward", "mm", "addmm", "bmm"}


class MixedDevices(RuntimeError):
    """Tensors of the host and of the device in one operation."""


@contextlib.contextmanager
def plainly():
    """Within the block, operations are those of torch alone."""
    with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
        yield


def storages(tensor):
    sparse = tensor.layout is torch.sparse_coo
    return [t.untyped_storage() for t in ((tensor._indices(), tensor._values()) if sparse else (tensor,))]


def place_of(tensor):
    """The device that a tensor says it lies on, None = the host."""
    with plainly():
        return next((s.pretended for s in storages(tensor) if getattr(s, "pretended", None) is not None), None)


def put(tensor, device):
    """Let a tensor say that it lies on a device, None = on the host; return it."""
    with plainly():
        for storage in storages(tensor):
            storage.pretended = device
    return tensor


def line_of_selfseg():
    """File and line of selfseg that called."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/selfseg/" in name:
            return f"{name.rpartition('/selfseg/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class GeneratorOnTheHost(torch.Generator):
    """A generator of the host, whatever device it was asked for."""

    def __new__(cls, device=None):
        return super().__new__(cls)


class PretendedGPU(contextlib.ExitStack):
    """A device of one kind, ``cuda`` or ``mps``, of which there are `count`.

    `capability` is its compute capability, `free` its free memory in bytes, `largest` the bytes of the largest tensor that it can hold
    (None = any), `float64` whether it has that type, `working` whether a kernel can be launched on it.
    """

    def __init__(
        self,
        kind="cuda",
        count=1,
        capability=(9, 0),
        free=8 << 30,
        largest=None,
        float64=None,
        triton=False,
        working=True,
    ):
        super().__init__()
        self.kind, self.count, self.capability, self.free, self.largest = kind, count, capability, free, largest
        self.float64 = kind == "cuda" if float64 is None else float64
        self.triton, self.working = triton, working
        self.cached = self.current = self.graph = None
        self._own = threading.local()
        self.streams = Streams()
        self.reset()

    def reset(self):
        """Count from nothing."""
        self.waits, self.copies, self.launches = Counter(), Counter(), Counter()

    def wait(self, what, line):
        """Count that the host waits."""
        refuse_if_capturing(self, f"{what}: {line}")
        self.waits[what, line] += 1

    def copy(self, what, line):
        """Count that something is copied to or from the host."""
        refuse_if_capturing(self, f"{what}: {line}")
        self.copies[what, line] += 1

    def figures(self):
        """Launches, waits and copies so far."""
        return self.launches.total(), self.waits.total(), self.copies.total()

    def report(self, most=12):
        """Where they came from, the most frequent first."""
        rows = {"launch": self.launches, "wait": self.waits, "copy": self.copies}
        return "\n".join(
            f"{kind:7} x{n:5} {key}" for kind, counter in rows.items() for key, n in counter.most_common(most)
        )

    def here(self, device):
        """The device as named, with its number; None if it is another kind."""
        if device is None or isinstance(device, int):
            return None
        device = torch.device(device)
        if device.type != self.kind:
            return None
        index = (self.current or 0) if device.index is None else device.index
        if index >= self.count:
            raise RuntimeError(f"{self.kind} error: invalid device ordinal, {index} of {self.count}")
        return torch.device(self.kind, index)

    @property
    def born_on(self):
        """Where what this thread makes of nothing lies."""
        return getattr(self._own, "born_on", None)

    @contextlib.contextmanager
    def making_on(self, device):
        """What is made of nothing within the block lies on the device."""
        before, self._own.born_on = self.born_on, device
        try:
            yield
        finally:
            self._own.born_on = before

    def made(self, tensor, device):
        """A new tensor there, if the device can have it."""
        if not self.working:
            raise RuntimeError(f"{self.kind} error: no kernel image is available for execution on the device")
        if not self.float64 and tensor.dtype == torch.float64:
            raise TypeError(
                f"Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64: {line_of_selfseg()}"
            )
        if self.largest is not None and tensor.numel() * tensor.element_size() > self.largest:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {tuple(tensor.shape)}")
        return put(tensor, device)

    def patch(self, owner, name, value):
        known = vars(owner) if isinstance(owner, type) else {name: getattr(owner, name)}
        before = known.get(name, self)
        setattr(owner, name, value)
        self.callback(lambda: delattr(owner, name) if before is self else setattr(owner, name, before))

    def __enter__(self):
        super().__enter__()
        self._patch_tensors()
        self._patch_devices()
        plain = torch.autocast

        class OnTheHost(plain):
            def __init__(self, device_type, *args, **options):
                super().__init__("cpu", *args, **options)

        self.patch(torch, "autocast", OnTheHost)
        for name in ("is_autocast_enabled", "get_autocast_dtype"):
            ask = getattr(torch, name)
            self.patch(torch, name, lambda device_type="cpu", ask=ask: ask("cpu"))
        self._forget()
        self.callback(self._forget)
        self.patch(torch, "Generator", GeneratorOnTheHost)
        if not self.triton:
            self.patch(on_gpu, "find_spec", lambda name: None)
        self.enter_context(Functions(self))
        self.enter_context(Operations(self))
        return self

    def _forget(self):
        """What was found out about another device is not true of this one."""
        fault_of.cache_clear()
        on_gpu.triton_fault.cache_clear()

    def _patch_tensors(self):
        base = torch._C.TensorBase
        device_of, to_numpy, to_array = base.device.__get__, base.numpy, torch.Tensor.__array__

        def device(tensor):
            with torch._C.DisableTorchFunction():
                return place_of(tensor) or device_of(tensor)

        def refuse(tensor):
            if (there := place_of(tensor)) is not None:
                raise TypeError(f"can't convert {there} device type tensor to numpy: {line_of_selfseg()}")

        def numpy(tensor, *args, **options):
            refuse(tensor)
            with torch._C.DisableTorchFunction():
                return to_numpy(tensor, *args, **options)

        def array(tensor, *args, **options):
            refuse(tensor)
            return to_array(tensor, *args, **options)

        for name, value in (("device", property(device)), ("numpy", numpy), ("__array__", array)):
            self.patch(torch.Tensor, name, value)
        for name, value in self.streams.methods().items():
            self.patch(torch.Tensor, name, value)
        self.patch(torch.Tensor, "is_cuda", property(lambda tensor: tensor.device.type == "cuda"))
        self.patch(torch.Tensor, "is_cpu", property(lambda tensor: place_of(tensor) is None))
        self.patch(
            torch.Tensor, "get_device", lambda tensor: -1 if place_of(tensor) is None else place_of(tensor).index
        )

    def _patch_devices(self):
        cuda = self.kind == "cuda"
        self.patch(torch.backends.mps, "is_available", lambda: self.kind == "mps")
        facts = {
            "is_available": lambda: cuda,
            "device_count": lambda: self.count if cuda else 0,
            "current_device": lambda: self.current or 0,
            "get_device_capability": lambda *device: self.capability,
            "get_device_name": lambda *device: "pretended",
            "mem_get_info": lambda *device: (self.free, 2 * self.free),
            "memory_reserved": lambda *device: self.cached or 0,
            "memory_allocated": lambda *device: 0,
            "synchronize": lambda *device: None,
            "empty_cache": lambda: None,
            "set_device": self._set_device,
            "device": self._on_device,
            "CUDAGraph": type("CUDAGraph", (Graph,), {"gpu": self}),
            "graph": partial(capturing, self),
            "is_current_stream_capturing": lambda: self.graph is not None,
            **self.streams.facts(),
        }
        for name, value in facts.items():
            self.patch(torch.cuda, name, value)

    def _set_device(self, device):
        self.current = device if isinstance(device, int) else self.here(device).index

    @contextlib.contextmanager
    def _on_device(self, device):
        before = self.current
        self._set_device(device)
        try:
            yield
        finally:
            self.current = before


FORMS_IN_ORDER = (torch.nn.functional.pad, torch.nn.functional.interpolate)
"""Functions that torch computes in another way on a GPU where a fixed order is asked for."""


class Functions(TorchFunctionMode):
    """What names a device: moves and makers."""

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        gpu, kwargs = self.gpu, dict(kwargs or {})
        if func in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu):
            return self._moved(func, args, kwargs)
        named = kwargs.get("device")
        forms = (torch.nn.functional.pad,) if torch.is_grad_enabled() else FORMS_IN_ORDER
        if func in forms and torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(False)  # torch has a form in a fixed order, which makes tensors unseen
            try:
                return self.__torch_function__(func, types, args, kwargs)
            finally:
                torch.use_deterministic_algorithms(True)
        if func is torch.Tensor.tolist and place_of(args[0]) is not None:
            gpu.wait("tolist", line_of_selfseg())
        if func is torch.Tensor.new_tensor:
            there = place_of(args[0]) if named is None else gpu.here(named)
            return self._filled(func, args, kwargs, there)
        if named is not None:
            if (there := gpu.here(named)) is not None:
                return self._made(func, args, kwargs, there)
            if any(place_of(t) for t in tensors_in(args)):
                return put(func(*args, **kwargs), None)
        given = tensors_in((args, kwargs))
        places = {place_of(t) for t in given}
        inner = getattr(func, "__name__", "") not in ("backward", "grad", "register_hook")
        if inner and len(places) == 1 and None not in places:  # what a composite makes for itself lies there too
            with gpu.making_on(places.pop()):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _made(self, func, args, kwargs, there):
        if getattr(func, "__name__", "") in ("tensor", "as_tensor", "asarray"):
            return self._filled(func, args, kwargs, there)
        with self.gpu.making_on(there):
            return self.gpu.made(func(*args, **{**kwargs, "device": HOST}), there)

    def _filled(self, func, args, kwargs, there):
        """A tensor of values that the host has."""
        source = tensors_in(args[:1] if func is not torch.Tensor.new_tensor else args[1:2])
        out = func(*args, **({**kwargs, "device": HOST} if "device" in kwargs else kwargs))
        if there is None:
            return put(out, None)
        if not (source and place_of(source[0]) == there):
            self.gpu.copy("to the device", line_of_selfseg())
            out = out.clone() if source else out
        return self.gpu.made(out, there)

    def _moved(self, func, args, kwargs):
        tensor, rest = args[0], args[1:]
        device, dtype = kwargs.get("device"), kwargs.get("dtype")
        if func is not torch.Tensor.to:
            device = self.gpu.kind if func is torch.Tensor.cuda else "cpu"
        for value in (*rest, *([kwargs["other"]] if "other" in kwargs else [])):
            if isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, str | torch.device):
                device = value
            elif isinstance(value, torch.Tensor):
                dtype, device = value.dtype, value.device
        here = place_of(tensor)
        there = here if device is None else self.gpu.here(device)
        out = tensor if dtype is None else torch.Tensor.to(tensor, dtype=dtype)
        form = {"memory_format": kwargs["memory_format"]} if kwargs.get("memory_format") is not None else {}
        if here == there:
            copied = kwargs.get("copy", False) or form
            return torch.Tensor.to(out, copy=kwargs.get("copy", False), **form) if copied else out
        line = line_of_selfseg()
        self.gpu.copy("to the host" if there is None else "to the device", line)
        if there is None and not kwargs.get("non_blocking", False):
            self.gpu.wait("copy to the host", line)
        out = out.clone(**form) if out.layout is torch.strided else out.clone()
        if there is None:
            return put(out, None)
        self.gpu.streams.copied(tensor, out, kwargs.get("non_blocking", False))
        return self.gpu.made(out, there)


class Operations(TorchDispatchMode):
    """What is computed: it may not mix devices, and lies where its arguments lie."""

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        gpu, kwargs = self.gpu, kwargs or {}
        given = tensors_in((args, kwargs))
        there = next((place for t in given if (place := place_of(t)) is not None), None)
        name = func._schema.name.removeprefix("aten::")
        if there is not None:
            self._check(func, name, args, given, there)
            if torch.are_deterministic_algorithms_enabled() and order_of(func, name, args, kwargs) in ANY_ORDER:
                raise RuntimeError(
                    f"{name} does not have a deterministic implementation, but you set "
                    f"'torch.use_deterministic_algorithms(True)': {line_of_selfseg()}"
                )
            if name in WAITING or (name.startswith("index") and masks_in(args[1:2])):
                gpu.wait(name, line_of_selfseg())
            if name not in NO_LAUNCH and not func.is_view:
                gpu.launches[line_of_selfseg()] += launches_of(name, args)
        if gpu.graph is not None:
            gpu.graph.note(func, args, kwargs)
        out = self._computed(func, name, args, kwargs)
        if gpu.graph is not None:
            gpu.graph.add(func, args, kwargs, out)
        there = None if name == "_local_scalar_dense" else there or gpu.born_on
        if there is not None:
            for tensor in tensors_in(out):
                gpu.made(tensor, there)
        return out

    def _computed(self, func, name, args, kwargs):
        """Products of half precision in float32: a processor without instructions for them takes minutes."""
        kinds = {t.dtype for t in tensors_in(args)}
        half = next((kind for kind in (torch.bfloat16, torch.float16) if kind in kinds), None)
        if name not in PRODUCTS or half is None:
            return func(*args, **kwargs)
        if len(kinds) > 1:
            raise MixedDevices(f"{name}: expected one dtype, got {kinds}: {line_of_selfseg()}")
        out = func(*tree_map_only(torch.Tensor, lambda t: t.float(), args), **kwargs)
        return tree_map_only(torch.Tensor, lambda t: t.to(half), out)

    def _check(self, func, name, args, given, there):
        places = [place_of(t) for t in given]
        if all(place == there for place in places) or name in COPYING:
            return
        others = [t for t, place in zip(given, places, strict=True) if place != there]
        if name in INDEXING and place_of(args[0]) == there:
            values = args[2] if len(args) > 2 else None
            if values is None or place_of(values) == there or values.ndim == 0:
                self.gpu.wait("indices from the host", line_of_selfseg())
                return
        scalars = torch.Tag.pointwise in func.tags or name in ("where", "lerp_", "clamp")
        if name.startswith(("_foreach", "_fused")) or (
            scalars and all(t.ndim == 0 and place_of(t) is None for t in others)
        ):
            return
        shapes = [(tuple(t.shape), str(place or HOST)) for t, place in zip(given, places, strict=True)]
        raise MixedDevices(f"{name}: expected all tensors on one device, got {shapes}: {line_of_selfseg()}")


MOST_TENSORS = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
"""Tensors of a list that one launch takes, where it has so many lists (`MultiTensorApply.cuh` of torch)."""


def is_dense(tensor):
    """Whether the values of a tensor lie together in memory, each once."""
    sides = sorted((stride, n) for stride, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1)
    return all(stride == math.prod(n for _, n in sides[:i]) for i, (stride, _) in enumerate(sides))


def launches_of(name, args):
    """Launches of an operation. Lists of tensors are taken at once, up to a number, and only where they lie alike in memory."""
    if not name.startswith(("_foreach", "_fused")):
        return 1
    lists = [arg for arg in args if isinstance(arg, list | tuple) and tensors_in(arg)]
    rows = list(zip(*lists, strict=True))
    alike = all(len({(t.stride(), t.dtype) for t in row}) == 1 and is_dense(row[0]) for row in rows)
    if name.startswith("_foreach") and not alike:
        return len(rows)
    depth = len(lists) + (name.startswith("_foreach") and not name.endswith("_"))
    chunks = sum(-(-row[0].numel() // 65536) for row in rows)
    return max(-(-len(rows) // MOST_TENSORS[min(depth, 5)]), -(-chunks // 320))


def order_of(func, name, args, kwargs):
    """Name of an operation in `ANY_ORDER`: some are there only in one of their forms."""
    if name == "cumsum" and args[0].is_floating_point():
        return "cumsum.floating"
    if name == "bincount" and (len(args) > 1 or "weights" in kwargs) and tensors_in((args[1:2], kwargs)):
        return "bincount.weights"
    if name == "median" and "dim" in func._overloadname:
        return "median.dim"
    if name.startswith("scatter_reduce") and "prod" in (*args, *kwargs.values()):
        return "scatter_reduce.prod"
    return name


def masks_in(values):
    return any(t.dtype in (torch.bool, torch.uint8) for t in tensors_in(values))
