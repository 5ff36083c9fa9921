"""What was done by hand, as Python and as commands that do it again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfseg.apps.studio.spec import Spec
from selfseg.refine.edits import AS_LEARNED, Edits


def as_python(spec: Spec, model: Path, edits: Edits, out: str = "out") -> str:
    """Return a script that learns, segments, edits and saves as the studio did."""
    inputs = _python_inputs(spec.inputs)
    axes = "" if spec.axes is None else f", axes={spec.axes!r}"
    lines = ["import selfseg", "from selfseg import predict"]
    if _is_edited(edits):
        lines.append("from selfseg.segmenting.edited import Edits")
    lines.append("")
    if spec.model is not None or spec.origin is not None or spec.changes:
        note = "  # it was changed while it learned, so it is loaded, not learned again" if spec.model is None else ""
        lines.append(f"model = selfseg.load({str(model)!r}){note}")
    else:
        arguments = [repr(spec.method), *(f"{key}={value!r}" for key, value in _differing(spec).items())]
        how = "" if spec.hints is None else f", scribbles={spec.hints!r}"
        lines.append(f"model = selfseg.Segmenter({', '.join(arguments)})")
        lines.append(f"model.fit({inputs}{how}{axes})")
    if not _is_edited(edits):
        lines += [f"predict(model, {inputs}, {out!r}{axes})", ""]
        return "\n".join(lines)
    values = {
        key: value
        for key, value in edits.to_json().items()
        if value not in ({}, [], ()) and (key, value) != ("level", AS_LEARNED)
    }
    lines += [f"edits = Edits.from_json({values!r})", f"predict(model, {inputs}, {out!r}{axes}, edits=edits)", ""]
    return "\n".join(lines)


def as_command(spec: Spec, model: Path, edits: Edits, edits_file: Path, out: str = "out") -> str:
    """Return commands that learn, segment, edit and save as the studio did."""
    inputs = " ".join(shlex.quote(path) for path in spec.inputs)
    axes = "" if spec.axes is None else f" --axes {spec.axes}"
    edited = f" --edits {shlex.quote(str(edits_file))}" if _is_edited(edits) else ""
    if spec.model is not None or spec.origin is not None or spec.changes:
        return f"selfseg predict {shlex.quote(str(model))} {inputs}{axes}{edited} -o {shlex.quote(out)}\n"
    words = [f"--method {spec.method}"]
    words += [
        f"--{key.replace('n_', '')} {shlex.quote(str(value))}"
        for key, value in _differing(spec).items()
        if key != "options"
    ]
    words += [f"--set {shlex.quote(f'{key}={_plain(value)}')}" for key, value in spec.options.items()]
    words += [] if spec.hints is None else [f"--scribbles {shlex.quote(spec.hints)}"]
    fit = f"selfseg fit {inputs} {' '.join(words)}{axes} -o model\n"
    return f"{fit}selfseg predict model {inputs}{axes}{edited} -o {shlex.quote(out)}\n"


def _differing(spec: Spec) -> dict[str, Any]:
    """Return the arguments of `Segmenter` that are not its defaults."""
    defaults: Mapping[str, Any] = {
        "preset": "default",
        "n_classes": None,
        "seed": 0,
        "prepare": None,
        "refine": None,
        "device": "auto",
    }
    found = {key: getattr(spec, key) for key, value in defaults.items() if getattr(spec, key) != value}
    return found | ({"options": dict(spec.options)} if spec.options else {})


def _is_edited(edits: Edits) -> bool:
    return edits != Edits()


def _python_inputs(inputs: Sequence[str]) -> str:
    return repr(inputs[0]) if len(inputs) == 1 else repr(list(inputs))


def _plain(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
