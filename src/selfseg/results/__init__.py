"""Results: one segmentation, the folder that a run leaves behind, objects and merge trees in it."""
