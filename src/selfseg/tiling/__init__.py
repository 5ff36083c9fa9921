"""Prediction: a function of a fitted method."""
