"""The readable side of a model folder."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfseg.pipeline.segmenter import Segmenter


def selfseg_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("selfseg")
    except PackageNotFoundError:
        return "unknown"


def stored_facts(model: "Segmenter") -> dict[str, Any]:
    """Return what ``config.json`` holds beside the method's own configuration."""
    params = {key: value for key, value in model.get_params().items() if key not in ("method", "device")}
    params["options"] = dict(params["options"] or {})
    return {
        "selfseg": selfseg_version(),
        "params": params,
        "preparation": model.preparation_.to_json(),
        "training": model.facts_,
    }


def model_card(model: "Segmenter") -> str:
    """Return a short description of a model, in Markdown."""
    facts = model.facts_
    rows = "\n".join(f"| {c.id} | {c.name} | {c.area_share:.1%} | {c.intensity:.3g} |" for c in model.table_.classes)
    return f"""# A segmentation model made with selfseg {selfseg_version()}

Learned without labels by the method `{model.method}` (preset `{model.preset}`, seed {model.seed}) from
{facts.get("n_images", "?")} image(s), in {facts.get("steps", "?")} steps and {facts.get("seconds", 0):.0f} seconds.
It takes images with {model.method_.n_channels} channel(s) in {model.method_.n_dims}D.
Every image is prepared in the same way: `{model.preparation_}`.

    selfseg predict THIS_FOLDER IMAGES... -o OUT

| label | class | share of the training pixels | mean intensity |
|---|---|---|---|
{rows}

Label 0 means ignore. `config.json` holds every setting, `model.safetensors` the weights.
"""
