"""The terms by which SP-WNet cuts its features into segments: on a superpixel graph, or on pixels."""

import math
from typing import Literal

import torch
from torch import Tensor

from selfseg.losses.affinity import Affinity
from selfseg.losses.clustering import clustering_terms
from selfseg.losses.region_continuity import region_continuity
from selfseg.losses.similarity import similarity
from selfseg.losses.soft_ncut import soft_ncut
from selfseg.losses.window_affinity import window_affinity
from selfseg.methods._sp_wnet_graph import SuperpixelGraph
from selfseg.methods._sp_wnet_options import SPWNetConfig
from selfseg.nets.region_pool import region_mean, region_votes


def segment_terms(
    config: SPWNetConfig, features: Tensor, image: Tensor, valid: Tensor | None, graph: SuperpixelGraph | None
) -> dict[str, Tensor]:
    """Return cut, similarity, continuity and balance of one image, those that have a weight, not yet weighted.

    Parameters
    ----------
    config
        Weights and kinds of the terms.
    features
        ``[1 K *S]``, float32.
    image, valid
        ``[C *S]``, and ``[*S]`` bool or None = all count.
    graph
        Superpixels of the image; None = all terms on pixels.
    """
    if graph is None:
        return _pixel_terms(config, features, image, valid)
    terms, means = {}, region_mean(features, graph.regions)  # [1 K R]
    if config.beta_cut is not None:
        terms["cut"] = soft_ncut(means.softmax(1), graph.affinity) / config.n_features
    if config.beta_sim is not None:
        scores = means if config.region_label == "mean" else region_votes(features, graph.regions)
        target = scores.detach().argmax(1)[:, graph.regions.labels]  # [1 *S]
        terms["sim"] = similarity(features, target, graph.regions.valid[None])
    if config.beta_con is not None:
        terms["con"] = region_continuity(means, graph.neighbours)
    if config.beta_balance is not None:
        terms["balance"] = _imbalance(means, graph.regions.sizes)
    return terms


def pixel_affinity(config: SPWNetConfig, image: Tensor, valid: Tensor | None) -> Affinity:
    """Return the weights between near pixels of ``[C *S]``, for the cut without superpixels."""
    sigma: float | Literal["auto"] = "auto" if config.sigma_intensity is None else config.sigma_intensity
    counted = None if valid is None else valid[None]
    return window_affinity(image[None], config.radius, sigma, config.sigma_space, config.spacing or None, counted)


def _pixel_terms(config: SPWNetConfig, features: Tensor, image: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
    terms = {}
    if config.beta_cut is not None:
        terms["cut"] = soft_ncut(features.softmax(1), pixel_affinity(config, image, valid)) / config.n_features
    if config.beta_sim is not None or config.beta_con is not None:
        similar, differences, _ = clustering_terms(features, None if valid is None else valid[None])
        if config.beta_sim is not None:
            terms["sim"] = similar
        if config.beta_con is not None:
            terms["con"] = torch.stack(differences).mean()
    if config.beta_balance is not None:
        terms["balance"] = _imbalance(features, torch.ones_like(image[0]) if valid is None else valid)
    return terms


def _imbalance(logits: Tensor, weights: Tensor) -> Tensor:
    """Return 1 - entropy / log K of the mean label shares of logits ``[1 K *n]`` with weights ``[*n]``: 0 if all are equal, to 1."""
    shares = (logits.softmax(1) * weights).flatten(2).sum(2)[0] / weights.sum().clamp(min=1)
    return 1 + (shares * shares.clamp(min=1e-12).log()).sum() / math.log(len(shares))
