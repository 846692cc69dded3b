"""The label of every column a report may have, whether the metric's weights are here or not."""

from __future__ import annotations

from ipfvr.metrics.info import MetricInfo

_ARCFACE = "Deng et al. 2019 (ArcFace cosine)"
_OWN = "this project: docs/reproduce.md"
_INFOS = (
    MetricInfo("psnr", "PSNR", True, 0, None, "dB", 2, ""),
    MetricInfo("ssim", "SSIM", True, -1, 1, "", 4, "Wang et al. 2004"),
    MetricInfo("lpips", "LPIPS", False, 0, None, "", 4, "Zhang et al. 2018"),
    MetricInfo("clip_iqa", "CLIP-IQA", True, 0, 1, "", 4, "Wang et al. 2023"),
    MetricInfo("musiq", "MUSIQ", True, 0, 100, "", 2, "Ke et al. 2021"),
    MetricInfo("liqe", "LIQE", True, 1, 5, "", 3, "Zhang et al. 2023"),
    MetricInfo("niqe", "NIQE", False, 0, None, "", 3, "Mittal et al. 2013"),
    MetricInfo("ids_gt", "IDS to truth", True, -1, 1, "", 4, _ARCFACE),
    MetricInfo("ids_ref", "IDS to reference", True, -1, 1, "", 4, _ARCFACE),
    MetricInfo("sigma_ids_gt", "sigma_IDS", False, 0, None, "x 1e-2", 3, _ARCFACE),
    MetricInfo("sigma_ids_ref", "sigma_IDS to reference", False, 0, None, "x 1e-2", 3, _ARCFACE),
    MetricInfo("e_warp_gt", "E_warp", False, 0, None, "x 1e-3", 4, "Lai et al. 2018"),
    MetricInfo("e_warp_own", "E_warp, own flow", False, 0, None, "x 1e-3", 4, "Lai et al. 2018"),
    MetricInfo("drift", "drift", False, None, None, "x 1e-2", 3, _OWN),
    MetricInfo("abs_drift", "drift either way", False, 0, None, "x 1e-2", 3, _OWN),
    MetricInfo("border_jump", "jump at borders", False, 0, None, "x 1e-2", 3, _OWN),
    MetricInfo("other_jump", "jump elsewhere", False, 0, None, "x 1e-2", 3, _OWN),
)
COLUMNS = {info.key: info for info in _INFOS}
