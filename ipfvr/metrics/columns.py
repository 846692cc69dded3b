"""The labels of all numbers: the one table that metrics, scores and reports read, with or without weights."""

from __future__ import annotations

from dataclasses import replace

from ipfvr.metrics.info import MetricInfo

_ARCFACE = "Deng et al. 2019 (ArcFace cosine)"
_OWN = "this project: docs/reproduce.md"
_INFOS = (
    MetricInfo("psnr", "PSNR", True, 0, 100, "dB", 2, "10 log10(1 / MSE)"),
    MetricInfo("ssim", "SSIM", True, -1, 1, "", 4, "Wang et al. 2004"),
    MetricInfo("lpips", "LPIPS", False, 0, None, "", 4, "Zhang et al. 2018 (AlexNet, version 0.1)"),
    MetricInfo("clip_iqa", "CLIP-IQA", True, 0, 1, "", 4, "Wang et al. 2023 (CLIP's ResNet-50)"),
    MetricInfo("musiq", "MUSIQ", True, 0, 100, "", 2, "Ke et al. 2021 (trained on KonIQ-10k)"),
    MetricInfo("liqe", "LIQE", True, 1, 5, "", 3, "Zhang et al. 2023 (trained on KonIQ-10k)"),
    MetricInfo("niqe", "NIQE", False, 0, None, "", 3, "Mittal et al. 2013"),
    MetricInfo("ids_gt", "IDS to truth", True, -1, 1, "", 4, _ARCFACE),
    MetricInfo("ids_ref", "IDS to reference", True, -1, 1, "", 4, _ARCFACE),
    MetricInfo("sigma_ids_gt", "sigma_IDS", False, 0, 100, "x 1e-2", 3, _ARCFACE),
    MetricInfo("sigma_ids_ref", "sigma_IDS to reference", False, 0, 100, "x 1e-2", 3, _ARCFACE),
    MetricInfo("e_warp_gt", "E_warp", False, 0, 1000, "x 1e-3", 4, "Lai et al. 2018"),
    MetricInfo("e_warp_own", "E_warp, own flow", False, 0, 1000, "x 1e-3", 4, "Lai et al. 2018"),
    MetricInfo("drift", "drift", False, None, None, "x 1e-2", 3, _OWN),
    MetricInfo("abs_drift", "drift either way", False, 0, None, "x 1e-2", 3, _OWN),
    MetricInfo("border_jump", "jump at borders", False, 0, None, "x 1e-2", 3, _OWN),
    MetricInfo("other_jump", "jump elsewhere", False, 0, None, "x 1e-2", 3, _OWN),
)
COLUMNS = {info.key: info for info in _INFOS}
# What a recogniser's cosines make.
LIKENESS = ("ids_gt", "ids_ref", "sigma_ids_gt", "sigma_ids_ref", "drift", "abs_drift", "border_jump", "other_jump")


def labelled(key: str, network: str = "", licence: str = "", by: str = "") -> MetricInfo:
    """Return the label of a number that is computed here.

    Args:
        key: in :data:`COLUMNS`.
        network: the network or the parameters behind it, with the sha256 of their files; empty: none, or not loaded.
        licence: of these.
        by: what belongs to its name, such as the flow behind E_warp.
    """
    info = COLUMNS[key]
    return replace(info, title=f"{info.title} by {by}" if by else info.title, network=network, licence=licence)
