"""Methods: one file each, found by its name; the contract is `methods.base`. Names are imported when they are first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfseg.methods.base import Batch, Memo, Method, MethodConfig, build_config, find_method, method_names

__all__ = ["Batch", "Memo", "Method", "MethodConfig", "build_config", "find_method", "method_names"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'selfseg.methods' has no attribute {name!r}")
    from selfseg.methods import base

    return getattr(base, name)
