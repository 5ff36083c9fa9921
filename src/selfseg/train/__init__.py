"""Training: the loop, its checkpoints and its journal. It knows no method."""
