"""Exports.

``labels`` (TIFF), ``volumes`` (NIfTI, MRC, HDF5, NPZ, DICOM-SEG), ``ome_zarr``, ``sequences`` (TIFF stacks, videos), ``overlay``
(PNG), ``outlines`` (boundaries, polygons), ``classes`` (``classes.json``, CSV tables), ``report`` (``report.html``); for other
programs ``nnunet`` and ``shape_files`` (GeoJSON, COCO, ImageJ ROIs).
"""
