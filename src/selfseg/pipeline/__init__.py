"""The pipeline: the only stage that sees the whole river. Read it from top to bottom.

`training_set` reads and prepares images, `fitting` trains a method on them and orders its classes, `segmenter` is the
fitted model that predicts, `result` is what it returns for one image, `outputs` is the folder that a run leaves behind,
`frame_choice` decides which frames of a video, a series or a volume are learned from, `sequence` sends all of them through a model.
`evaluate` scores label files against truth, `watch` does so while a method learns.
"""

from selfseg.pipeline.evaluate import Evaluation, evaluate
from selfseg.pipeline.result import Result
from selfseg.pipeline.run import fit, load, predict, segment
from selfseg.pipeline.segmenter import Segmenter

__all__ = ["Evaluation", "Result", "Segmenter", "evaluate", "fit", "load", "predict", "segment"]
