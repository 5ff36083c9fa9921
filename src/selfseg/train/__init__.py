"""Training: the loop, its checkpoints and its journal. It depends on no method."""
