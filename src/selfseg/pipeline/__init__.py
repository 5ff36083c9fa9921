"""The pipeline: the only stage that sees the whole river. Read it from top to bottom.

`training_set` reads and prepares images, `supervision` their labels, `fitting` trains a method on them, `class_table` names its
classes, `segmenter` is the fitted model, `segmenting` sends one image through it, `result` is what comes out, `predicting` does so for
all inputs of a run, `outputs` is the folder that it leaves behind. `frame_choice` decides which frames of a video, a series or a volume
are learned from, `sequence` sends all of them through a model, `large` an image in parts. `distill` teaches a U-Net another model's
labels, `evaluate` scores label files against truth, `watch` does so while a method learns.
"""

from selfseg.pipeline.evaluate import Evaluation, evaluate
from selfseg.pipeline.result import Result
from selfseg.pipeline.run import fit, load, predict, segment
from selfseg.pipeline.segmenter import Segmenter

__all__ = ["Evaluation", "Result", "Segmenter", "evaluate", "fit", "load", "predict", "segment"]
