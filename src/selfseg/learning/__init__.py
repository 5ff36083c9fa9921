"""Learning: from inputs to a fitted model, and `Segmenter`, which learns and segments."""
