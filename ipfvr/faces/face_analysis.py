"""insightface's ``FaceAnalysis`` as a detector: ``faces.detector=insightface``, ``pip install 'ipfvr[face]'``.

Its packs (buffalo_l, antelopev2) may be used for non-commercial research only and are never needed. Their recognisers
are read without the package (:mod:`ipfvr.faces.onnx_graph`), so that a gradient can go through them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ipfvr.core.errors import UserError
from ipfvr.core.options import FacesConfig
from ipfvr.faces.detect import NetworkDetector

_SIDE = 640  # of what the network looks at: a smaller image is laid into a corner of it


class InsightFaceDetector(NetworkDetector):
    """The detector of a pack (SCRFD), without the pack's other networks.

    Args:
        pack: the pack's folder.
        config: how faces are looked for.

    Raises:
        UserError: the package is not installed, or cannot read the pack.
    """

    name = "insightface"

    def __init__(self, pack: Path, config: FacesConfig) -> None:
        super().__init__(pack, config)
        try:
            from insightface.app import FaceAnalysis
        except ModuleNotFoundError as error:
            raise UserError(
                f"faces.detector=insightface needs {error.name}: pip install 'ipfvr[face]', or use centerface"
            ) from None
        try:
            self._analysis = FaceAnalysis(str(pack), allowed_modules=["detection"], providers=["CPUExecutionProvider"])
            self._analysis.prepare(ctx_id=-1, det_thresh=config.min_confidence, det_size=(_SIDE, _SIDE))
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"insightface cannot read the pack {pack}: {reason}; fetch it again") from None

    def _search(self, small: np.ndarray) -> np.ndarray:
        rows = []
        for face in self._analysis.get(np.ascontiguousarray(small[..., ::-1])):
            left, top, right, bottom = face.bbox[:4]
            rows.append([left, top, right - left, bottom - top, *np.ravel(face.kps), face.det_score])
        return np.array(rows, np.float32).reshape(-1, 15)
