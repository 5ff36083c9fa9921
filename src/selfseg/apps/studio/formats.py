"""The names of the formats in which labels can be taken away, without importing what writes them."""

TITLES = {
    "labels": "Label TIFF: integers, for Fiji, napari, QuPath and programs",
    "overlay": "Overlay PNG: the picture under the colours of its classes",
    "colours": "Colour PNG: the classes alone",
    "geojson": "GeoJSON: outlines of every region, for QuPath and GIS",
    "csv": "CSV: area and share of every class",
}


def format_names() -> dict[str, str]:
    """Return every format with a line about it."""
    return dict(TITLES)
