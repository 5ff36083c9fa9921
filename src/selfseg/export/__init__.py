"""Exports: label files, overlays, outlines and the report."""
