"""Measures of segmentations against truth, on integer arrays of any dimension."""
