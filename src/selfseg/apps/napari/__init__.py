"""The plugin for napari (`selfseg[napari]`): the open layer in, a labels layer out. `napari.yaml` is its manifest.

`layers` turns layers into images and results into layers, `process` and `work` run selfseg beside the window, `widget` is
what the user sees.
"""
