"""Verification: how well a recogniser tells people apart, on all pairs of labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FALSE_POSITIVE_RATES = (1e-2, 1e-3)


def verification(embeddings: Tensor, people: Sequence[str]) -> dict[str, float]:
    """Scores over every pair of pictures.

    A pair is accepted when its cosine exceeds a threshold. TPR at FPR f is the share of the same person's pairs above
    the smallest threshold that at most the share f of the other pairs exceeds; AUC is the chance that a pair of one
    person has a larger cosine than a pair of two (ties count half).

    Args:
        embeddings: (N, D) of length 1.
        people: N names.

    Returns:
        ``auc``, ``tpr@0.01``, ``tpr@0.001``, the median cosines ``same`` and ``different``, and the numbers of pairs,
        ``same_pairs`` and ``different_pairs``.

    Raises:
        ValueError: no pair of one person, or none of two.
    """
    cosines = embeddings.double() @ embeddings.double().T
    label = torch.tensor([sorted(set(people)).index(p) for p in people], device=cosines.device)
    equal = label[:, None] == label[None, :]
    pair = torch.ones_like(equal).triu(1)
    same, different = cosines[equal & pair].sort().values, cosines[~equal & pair].sort().values
    if not len(same) or not len(different):
        raise ValueError("verification needs pairs of one person and pairs of two")
    below = torch.searchsorted(different, same) + torch.searchsorted(different, same, right=True)
    scores = {
        "auc": (below.double().mean() / (2 * len(different))).item(),
        "same": same.median().item(),
        "different": different.median().item(),
        "same_pairs": float(len(same)),
        "different_pairs": float(len(different)),
    }
    for rate in FALSE_POSITIVE_RATES:
        threshold = different[len(different) - 1 - int(rate * len(different))]
        scores[f"tpr@{rate:g}"] = (same > threshold).double().mean().item()
    return scores
