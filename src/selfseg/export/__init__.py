"""Exports, a file each.

``labels`` (label and probability TIFFs), ``overlay`` (PNG), ``outlines`` (boundaries, polygons, GeoJSON), ``classes``
(``classes.json``, ``classes.csv``), ``report`` (``report.html``).
"""
