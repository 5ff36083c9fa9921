"""The user's own encoder and decoder: a module that Python can import, with two functions.

    def encoder(n_channels: int, n_features: int, n_dims: int) -> nn.Module: ...   # [B C *S] -> [B F *S]
    def decoder(n_features: int, n_channels: int, n_dims: int) -> nn.Module: ...   # [B F *S] -> [B C *S]

Importing runs code, so it is done only for a name that the user gave: in the options, or again when a stored model is loaded.
A model folder alone never makes Python import anything.
"""

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from selfseg.core.errors import ModelError, UsageError

PROTOCOL = "encoder(n_channels, n_features, n_dims) and decoder(n_features, n_channels, n_dims)"

_named_again: ContextVar[str | None] = ContextVar("named_again", default=None)
_reading: ContextVar[bool] = ContextVar("reading", default=False)


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
    """Import a module and make its encoder and decoder.

    Parameters
    ----------
    name
        ``package.module``.
    n_channels, n_features, n_dims
        C, F, and 2 or 3: what the functions are called with.

    Raises
    ------
    UsageError
        If the module cannot be imported, lacks a function, or a network does not keep the size or the channels.
    ModelError
        If the name comes out of a model folder and the user did not give it again.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
        fix = "write it as package.module, without .py"
        raise UsageError("networks", expected="the name of a module", got=repr(name), fix=fix)
    if _reading.get() and _named_again.get() != name:
        fix = f"if you trust it, name it again: --networks {name}, or load(..., networks={name!r})"
        got = f"one that needs the module {name!r}, which would be run"
        raise ModelError("networks", expected="a model without code of its own", got=got, fix=fix)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        fix = "start Python where it is found, for example with PYTHONPATH=."
        raise UsageError(f"networks {name}", expected="a module to import", got=str(error), fix=fix) from error
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
            fix = "give it these three arguments"
            raise UsageError(f"networks {name}, {function}", expected=PROTOCOL, got=str(error), fix=fix) from error
    if not isinstance(made, nn.Module):
        got = "no such function" if make is None else f"{type(made).__name__} from {function}"
        raise UsageError(f"networks {name}", expected=f"{PROTOCOL}, each giving an nn.Module", got=got, fix="add it")
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
        fix = "keep the size of any image, for example by padding"
        raise UsageError(what, expected=f"shape {wanted} of {(1, n_in, *wanted[2:])}", got=got, fix=fix)
    return made
