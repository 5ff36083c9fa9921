"""Exports, a file each.

``labels`` (label TIFFs), ``overlay`` (PNG), ``outlines`` (boundaries, polygons), ``classes``
(``classes.json``, ``classes.csv``), ``report`` (``report.html``); for other programs ``nnunet``, ``coco``, ``geojson``
(QuPath), ``imagej_roi`` and ``object_table`` (CSV).
"""
