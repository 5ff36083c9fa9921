"""Losses: one equation a file. Tensors are ``[B K *S]``; a pixel mask is ``[B *S]``."""

from selfseg.losses.area import area_too_large, area_too_small, soft_areas
from selfseg.losses.clustering import clustering_terms
from selfseg.losses.continuity import continuity
from selfseg.losses.scribble import scribble
from selfseg.losses.similarity import similarity

__all__ = ["area_too_large", "area_too_small", "clustering_terms", "continuity", "scribble", "similarity", "soft_areas"]
