"""How far apart the pixels of the training images lie, told to the method."""

import numpy as np

from selfseg.core.progress import Progress
from selfseg.learning.training_set import TrainingSet
from selfseg.methods.base import MethodConfig


def with_spacing(config: MethodConfig, data: TrainingSet, progress: Progress) -> MethodConfig:
    """Return the configuration with the ratios of the first image's spacing, unless the user gave others."""
    ratios = [tuple(round(size / min(item.spacing), 4) for size in item.spacing) for _, item in data.prepared]
    if config.spacing or max(ratios[0]) == 1:
        return config
    shown = " : ".join(f"{ratio:g}" for ratio in ratios[0])
    others = sum(not np.allclose(ratio, ratios[0], rtol=0.01) for ratio in ratios)
    differ = f"; {others} image(s) differ" if others else ""
    progress.say(f"pixels lie {shown} apart, as {data.prepared[0][0]} says{differ}")
    return config.model_copy(update={"spacing": ratios[0]})
