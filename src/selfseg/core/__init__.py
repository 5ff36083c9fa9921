"""Core: what every stage may use. Axes, the image type, configuration, seeds, errors, progress, safe files. No torch."""
