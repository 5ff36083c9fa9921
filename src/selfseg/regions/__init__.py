"""Regions: superpixels, their adjacency graph and the merge tree over them. Any number of dimensions, no torch."""
