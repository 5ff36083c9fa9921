"""Every method as a form: what it is, its presets, and for each option of its `Config` the kind, bounds, default and meaning."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from selfseg.methods.base import Method, find_method, method_names

FIRST = ("n_classes", "prepare")
"""Options that have a place of their own in the page."""


def describe_methods() -> list[dict[str, Any]]:
    """Return plain values for the page, one row a method."""
    return [_described(name, find_method(name)) for name in method_names()]


def _described(name: str, method: type[Method]) -> dict[str, Any]:
    text = inspect.getdoc(inspect.getmodule(method)) or ""
    schema = method.Config.model_json_schema()
    return {
        "name": name,
        "title": name.replace("_", " "),
        "text": text.partition("\n")[0],
        "more": text.partition("\n")[2].strip(),
        "uses_annotations": method.uses_annotations,
        "presets": {"default": {}, **{key: _plain(values) for key, values in method.presets.items()}},
        "fields": [_field(key, entry, key in method.live) for key, entry in schema["properties"].items()],
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a preset as JSON has them: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return plain


def _field(name: str, entry: dict[str, Any], live: bool) -> dict[str, Any]:
    """Return one option as a form field; one that may be empty has ``optional``, one that may change while learning ``live``."""
    kinds = entry.get("anyOf", [entry])
    chosen = next((kind for kind in kinds if kind.get("type") != "null"), entry)
    bounds = {
        key: chosen[long]
        for key, long in (
            ("min", "minimum"),
            ("above", "exclusiveMinimum"),
            ("max", "maximum"),
            ("below", "exclusiveMaximum"),
        )
        if long in chosen
    }
    return {
        "name": name,
        "kind": "choice" if "enum" in chosen else chosen.get("type", "string"),
        "choices": chosen.get("enum"),
        "live": live,
        "optional": any(kind.get("type") == "null" for kind in kinds),
        "default": entry.get("default"),
        "help": " ".join(entry.get("description", "").split()),
        **bounds,
    }
