"""Sampling: named preparation steps and batches of prepared images."""
