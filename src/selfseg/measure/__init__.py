"""Measures of segmentations against truth, and of objects, on integer arrays of any dimension. Importing this is light."""

from importlib import import_module
from typing import Any

_HOMES = {
    "_table": "Table contingency contingencies pooled",
    "partition": (
        "InformationScores PairScores adapted_rand_error adjusted_mutual_information adjusted_rand_index "
        "completeness fowlkes_mallows homogeneity information_scores pair_scores probabilistic_rand_index "
        "rand_index v_measure variation_of_information variation_parts"
    ),
    "overlap": (
        "AreaSum ClassScores best_overlap_miou best_overlap_sums covering covering_sums hungarian_class_scores "
        "majority_class_scores same_class_scores"
    ),
    "boundary": "BoundaryCounts boundary_counts boundary_f boundary_map",
    "temporal": "FlickerCount FlickerMeter flicker",
    "instances": (
        "ForegroundScores InstanceScores LesionCounts foreground_scores instance_scores lesion_counts panoptic_quality thin_borders"
    ),
    "label_free": (
        "ClusterValidity LabelChange borsotti_q boundary_edge_agreement cluster_validity description_length "
        "liu_yang reconstruction_error small_changes stability zeboudj zhang_entropy"
    ),
    "objects": "ObjectSums measure_objects",
    "scales": "BestScale OdsOis ScaleScores list_scores ods_ois tree_scores",
    "kinds": "Scores region_scores score summarize",
}
"""Public names by the module that holds them."""

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
