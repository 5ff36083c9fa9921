"""Losses: one equation a file, plain functions of tensors."""
