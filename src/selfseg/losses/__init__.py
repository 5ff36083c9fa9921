"""Losses: one concept a file, led by its equation. Tensors are ``[B K *S]``; a pixel mask is ``[B *S]``."""

from selfseg.losses._valid import count_labels, weighted
from selfseg.losses.area import area_too_large, area_too_small, soft_areas
from selfseg.losses.clustering import clustering_terms, continuity, neighbour_weights, region_continuity, similarity
from selfseg.losses.soft_ncut import edge_affinity, region_affinity, soft_ncut, window_affinity
from selfseg.losses.supervised import scribble

__all__ = [
    "area_too_large",
    "area_too_small",
    "clustering_terms",
    "continuity",
    "count_labels",
    "edge_affinity",
    "neighbour_weights",
    "region_affinity",
    "region_continuity",
    "scribble",
    "similarity",
    "soft_areas",
    "soft_ncut",
    "weighted",
    "window_affinity",
]
