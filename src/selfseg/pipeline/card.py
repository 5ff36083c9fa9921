"""The readable side of a model folder."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from selfseg.core.classes import ClassTable
from selfseg.methods.base import Method


def selfseg_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("selfseg")
    except PackageNotFoundError:
        return "unknown"


def model_card(
    name: str, preset: str, seed: int, method: Method, table: ClassTable, preparation: str, facts: dict[str, Any]
) -> str:
    """Return a short description of a model, in Markdown."""
    rows = "\n".join(f"| {c.id} | {c.name} | {c.area_share:.1%} | {c.intensity:.3g} |" for c in table.classes)
    return f"""# A segmentation model made with selfseg {selfseg_version()}

Learned without labels by the method `{name}` (preset `{preset}`, seed {seed}) from
{facts.get("n_images", "?")} image(s), in {facts.get("steps", "?")} steps and {facts.get("seconds", 0):.0f} seconds.
It takes images with {method.n_channels} channel(s) in {method.n_dims}D.
Every image is prepared in the same way: `{preparation}`.

    selfseg predict THIS_FOLDER IMAGES... -o OUT

| label | class | share of the training pixels | mean intensity |
|---|---|---|---|
{rows}

Label 0 means ignore. `config.json` holds every setting, `model.safetensors` the weights.
"""
