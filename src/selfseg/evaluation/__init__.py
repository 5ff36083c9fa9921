"""Evaluation: label files against truth."""
