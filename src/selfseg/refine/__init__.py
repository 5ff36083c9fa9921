"""Refinement: from probabilities to labels and to the merge tree."""
