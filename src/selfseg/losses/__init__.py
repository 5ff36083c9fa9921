"""Losses: one equation a file. Tensors are ``[B K *S]``; a pixel mask is ``[B *S]``."""

from selfseg.losses.area import area_too_large, area_too_small, soft_areas
from selfseg.losses.clustering import clustering_terms
from selfseg.losses.continuity import continuity
from selfseg.losses.edge_affinity import edge_affinity
from selfseg.losses.region_affinity import region_affinity
from selfseg.losses.region_continuity import neighbour_weights, region_continuity
from selfseg.losses.scribble import scribble
from selfseg.losses.similarity import similarity
from selfseg.losses.soft_ncut import soft_ncut
from selfseg.losses.window_affinity import window_affinity

__all__ = [
    "area_too_large",
    "area_too_small",
    "clustering_terms",
    "continuity",
    "edge_affinity",
    "neighbour_weights",
    "region_affinity",
    "region_continuity",
    "scribble",
    "similarity",
    "soft_areas",
    "soft_ncut",
    "window_affinity",
]
