"""The pipeline: the only stage that sees the whole river. Read it from top to bottom.

`training_set` reads and prepares images, `supervision` their labels, `fitting` trains a method on them, `class_table` names its
classes, `segmenter` is the fitted model that predicts, `result` is what it returns for one image, `outputs` is the folder that a
run leaves behind, `distill` teaches a U-Net another model's labels, `evaluate` scores label files against truth, `watch` does so
while a method learns.
"""

from selfseg.pipeline.evaluate import Evaluation, evaluate
from selfseg.pipeline.result import Result
from selfseg.pipeline.run import fit, load, predict, segment
from selfseg.pipeline.segmenter import Segmenter

__all__ = ["Evaluation", "Result", "Segmenter", "evaluate", "fit", "load", "predict", "segment"]
