"""Score a clip: what the evaluate verb, the demo and the tables all call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipfvr.catalogue import ENTRIES
from ipfvr.errors import UserError
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.faces.recognise import Recogniser, embed_faces, load_recogniser
from ipfvr.metrics.base import ClipMetric, FrameMetric
from ipfvr.metrics.fidelity import PSNR, SSIM, SSIM_WINDOW
from ipfvr.metrics.flow import Flow, make_flow
from ipfvr.metrics.identity import IDS, LandmarkFinder, SigmaIDS, embed_reference
from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.niqe import NIQE, Pristine, choose_blocks, load_pristine
from ipfvr.metrics.warping import WarpingError
from ipfvr.options import Config
from ipfvr.registry import locate, sha256

BATCH = 8  # frames scored at once: bounds memory, changes nothing
NO_TARGET = "no ground truth is given"
NO_REFERENCE = "no reference is given"
HAS_TARGET = "the flow is the ground truth's"


@dataclass
class ClipScores:
    """What one clip scored.

    Attributes:
        name: the clip's.
        frames: how many were scored.
        width: of the frames as scored, pixels.
        height: likewise.
        scores: by metric key; None where there is no number.
        missing: why, for each key without a number.
        per_frame: by metric key, one entry a frame, None where a frame has no number.
        visible: mean share of pixels that E_warp counts; None without E_warp.
        landmarks: frames whose landmarks were ``detected``, taken from the ``template``, or had ``no face``.
        resized_from: (width, height) of the prediction where it was resized to the ground truth.
    """

    name: str
    frames: int
    width: int
    height: int
    scores: dict[str, float | None]
    missing: dict[str, str] = field(default_factory=dict)
    per_frame: dict[str, list[float | None]] = field(default_factory=dict)
    visible: float | None = None
    landmarks: dict[str, int] = field(default_factory=dict)
    resized_from: tuple[int, int] | None = None


@dataclass
class Scorer:
    """The networks behind the metrics, loaded once; what has no weights says why and is never substituted.

    Attributes:
        recogniser: behind IDS and sigma_IDS; None: ``missing["recogniser"]`` says why.
        detector: finds the landmarks of the recogniser's crop; None: ``missing["detector"]`` says why, and square
            frames are taken for aligned crops.
        aligned: frames are aligned crops, whose landmarks are the template's; the detector is for references only.
        pristine: NIQE's parameters; None: ``missing["niqe"]`` says why.
        flow: behind E_warp; None: ``missing["flow"]`` says why.
        weights: the files, for provenance.
        missing: reasons, by part.
        device: where metrics are computed.
    """

    recogniser: Recogniser | None = None
    detector: Detector | None = None
    aligned: bool = False
    pristine: Pristine | None = None
    flow: Flow | None = None
    weights: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def metrics(self) -> dict[str, ClipMetric]:
        """A fresh metric for each number, in the tables' order; those without weights are left out."""
        found: list[ClipMetric] = [PSNR(), SSIM()]
        if self.recogniser is not None:
            found += [IDS(target, self.recogniser) for target in ("gt", "ref")]
            found += [SigmaIDS(target, self.recogniser) for target in ("gt", "ref")]
        if self.flow is not None:
            found += [WarpingError(source, self.flow) for source in ("gt", "own")]
        if self.pristine is not None:
            path = self.weights.get("niqe")
            parameters = f"{path.name} (sha256 {sha256(path)})" if path is not None else ""
            found.append(NIQE(self.pristine, parameters, ENTRIES["niqe"].licence))
        return {metric.info.key: metric.to(self.device) for metric in found}

    def infos(self) -> dict[str, MetricInfo]:
        """The label of every number, with the network behind it where that is loaded."""
        loaded = self.metrics()
        return {key: loaded[key].info if key in loaded else info for key, info in all_infos().items()}

    def embed_reference(self, pictures: dict[str, np.ndarray], choose: int | None = None) -> Tensor | None:
        """See :func:`ipfvr.metrics.identity.embed_reference`; None without a recogniser."""
        if self.recogniser is None:
            return None
        return embed_reference(self.recogniser, self.detector, pictures, choose)


def make_scorer(
    config: Config, device: torch.device | str = "cpu", aligned: bool = False, flow: str = "auto"
) -> Scorer:
    """Load what the metrics need; a file that is not there is noted in ``missing`` and stops nothing.

    Args:
        config: ``weights.recogniser`` and ``faces`` are used.
        device: where metrics are computed.
        aligned: frames are aligned crops: their landmarks are the template's, none are looked for.
        flow: behind E_warp, see :func:`ipfvr.metrics.flow.make_flow`.
    """
    scorer = Scorer(device=torch.device(device), aligned=aligned)
    try:
        scorer.recogniser = load_recogniser(config.weights.recogniser).to(scorer.device)
        scorer.weights["recogniser"] = scorer.recogniser.path
    except UserError as error:
        scorer.missing["recogniser"] = str(error)
    try:
        scorer.flow = make_flow(flow)
        scorer.weights |= {f"flow ({name})": path for name, path in scorer.flow.weights.items()}
    except UserError as error:
        scorer.missing["flow"] = str(error)
    try:
        path = locate("niqe")
        scorer.pristine, scorer.weights["niqe"] = load_pristine(path), path
    except UserError as error:
        scorer.missing["niqe"] = str(error)
    try:
        scorer.detector = make_detector(config.faces)
        scorer.weights |= {f"detector ({name})": path for name, path in scorer.detector.weights.items()}
    except UserError as error:
        scorer.missing["detector"] = str(error)
    return scorer


def all_infos() -> dict[str, MetricInfo]:
    """The label of every number this project reports, whether its weights are there or not."""
    pristine = Pristine(torch.zeros(36, dtype=torch.float64), torch.eye(36, dtype=torch.float64))
    ids = [kind(target) for kind in (IDS, SigmaIDS) for target in ("gt", "ref")]
    warping = [WarpingError(source) for source in ("gt", "own")]
    return {metric.info.key: metric.info for metric in (PSNR(), SSIM(), *ids, *warping, NIQE(pristine))}


def evaluate_clip(
    prediction: Iterable[np.ndarray],
    target: Iterable[np.ndarray] | None,
    reference: Tensor | None,
    scorer: Scorer,
    *,
    name: str = "clip",
    resize: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ClipScores:
    """Score one clip at constant memory.

    Landmarks are found once, on the ground truth (on the prediction where there is none), and serve both.

    Args:
        prediction: frames, uint8 RGB (H, W, 3), in order; an array (F, H, W, 3) will do.
        target: the ground truth's frames, or None.
        reference: (D,) embedding from :meth:`Scorer.embed_reference`, or None.
        scorer: from :func:`make_scorer`.
        name: the row's name.
        resize: resize predicted frames to the ground truth's size where they differ.
        progress: called with the number of frames done after each batch.

    Raises:
        UserError: no frames; unequal numbers of frames; unequal sizes without ``resize``.
    """
    metrics = scorer.metrics()
    finder = LandmarkFinder(None if scorer.aligned else scorer.detector)
    per_frame: dict[str, list[float | None]] = {
        key: [] for key, metric in metrics.items() if isinstance(metric, FrameMetric)
    }
    missing: dict[str, str] = {}
    visible: list[float] = []
    frames, size, original = 0, (0, 0), (0, 0)
    for batch in _batches(_paired(prediction, target, name)):
        original = batch[0][0].shape[1::-1]
        pairs = [(_fit(p, t, name, resize), t) for p, t in batch]
        size = pairs[0][0].shape[1::-1]
        _score_batch(pairs, reference, scorer, metrics, finder)
        missing = _not_applicable(size, target is not None, reference is not None or scorer.recogniser is None, scorer)
        if "e_warp_gt" in metrics:
            visible += metrics["e_warp_own" if target is None else "e_warp_gt"].visible.tolist()
        for key, values in per_frame.items():
            latest = metrics[key].latest.tolist() if key not in missing else [math.nan] * len(batch)
            values += [v if math.isfinite(v) else None for v in latest]
        frames += len(batch)
        if progress is not None:
            progress(frames)
    if not frames:
        raise UserError(f"{name} has no frames to score")

    scores: dict[str, float | None] = {}
    for key in all_infos():
        value = metrics[key].end_clip() if key in metrics else math.nan
        scores[key] = value if math.isfinite(value) else None
        if scores[key] is None:
            missing.setdefault(key, _reason(key, frames, scorer))
    return ClipScores(
        name,
        frames,
        *size,
        scores,
        {key: reason for key, reason in missing.items() if scores[key] is None},
        {key: values for key, values in per_frame.items() if scores[key] is not None},
        float(np.nanmean(visible)) if np.isfinite(visible).any() else None,
        dict(finder.counts) if scorer.recogniser is not None else {},
        original if original != size else None,
    )


def _score_batch(
    pairs: list[tuple[np.ndarray, np.ndarray | None]],
    reference: Tensor | None,
    scorer: Scorer,
    metrics: dict[str, ClipMetric],
    finder: LandmarkFinder,
) -> None:
    """Update every metric that has what it needs with a batch of frames of one size."""
    images = np.stack([p for p, _ in pairs])
    predicted = _unit(images).to(scorer.device)
    truths = np.stack([t for _, t in pairs]) if pairs[0][1] is not None else None
    if truths is not None:
        wanted = _unit(truths).to(scorer.device)
        metrics["psnr"].update(predicted, wanted)
        if min(images.shape[1:3]) >= SSIM_WINDOW:
            metrics["ssim"].update(predicted, wanted)
    if scorer.flow is not None and min(images.shape[1:3]) >= scorer.flow.min_side:
        if truths is None:
            metrics["e_warp_own"].update(predicted)
        else:
            metrics["e_warp_gt"].update(predicted, wanted)
    if "niqe" in metrics:
        metrics["niqe"].update(predicted)
    if scorer.recogniser is not None and (truths is not None or reference is not None):
        landmarks = np.stack([finder.find(image) for image in (truths if truths is not None else images)])
        embeddings = embed_faces(images, landmarks, scorer.recogniser)
        targets = {"ref": reference}
        if truths is not None:
            targets["gt"] = embed_faces(truths, landmarks, scorer.recogniser)
        for suffix, target in targets.items():
            if target is not None:
                for key in (f"ids_{suffix}", f"sigma_ids_{suffix}"):
                    metrics[key].update(embeddings.to(scorer.device), target.to(scorer.device))


def _unit(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 to (F, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def _not_applicable(size: tuple[int, int], has_target: bool, may_compare: bool, scorer: Scorer) -> dict[str, str]:
    """Reasons that hold for every frame of a clip."""
    reasons = {}
    if has_target:
        reasons["e_warp_own"] = HAS_TARGET
    else:
        reasons |= dict.fromkeys(("psnr", "ssim", "ids_gt", "sigma_ids_gt", "e_warp_gt"), NO_TARGET)
    if has_target and min(size) < SSIM_WINDOW:
        reasons["ssim"] = f"frames are smaller than SSIM's window of {SSIM_WINDOW} pixels"
    if scorer.flow is not None and min(size) < scorer.flow.min_side:
        small = f"frames are smaller than the {scorer.flow.min_side} pixels that {scorer.flow.name} needs"
        reasons["e_warp_gt" if has_target else "e_warp_own"] = small
    if not may_compare:
        reasons |= dict.fromkeys(("ids_ref", "sigma_ids_ref"), NO_REFERENCE)
    blocks = choose_blocks(size[1], size[0])
    if all((n - blocks.size) // blocks.stride + 1 < 2 for n in size):
        reasons["niqe"] = f"frames hold fewer than two blocks of {blocks}"
    return reasons


def _reason(key: str, frames: int, scorer: Scorer) -> str:
    """Why a metric that applies to the clip has no number."""
    if key == "niqe":
        return scorer.missing.get("niqe", "no frame has texture enough in two blocks")
    if key.startswith("e_warp"):
        if scorer.flow is None:
            return scorer.missing.get("flow", "no flow is loaded")
        return "one frame has no motion" if frames == 1 else "no pixel is seen in two frames"
    if scorer.recogniser is None:
        return scorer.missing.get("recogniser", "no recogniser is loaded")
    if key.startswith("sigma") and frames == 1:
        return "one frame has no standard deviation"
    return "a face was found in fewer than two frames" if key.startswith("sigma") else "no face was found in any frame"


def _paired(
    prediction: Iterable[np.ndarray], target: Iterable[np.ndarray] | None, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Frames with their ground truth; a difference in number is an error that names both."""
    if target is None:
        yield from ((p, None) for p in prediction)
        return
    left, right = iter(prediction), iter(target)
    count = 0
    while True:
        p, t = next(left, None), next(right, None)
        if p is None or t is None:
            break
        count += 1
        yield p, t
    if p is not None or t is not None:
        here = count + (p is not None) + sum(1 for _ in left)
        there = count + (t is not None) + sum(1 for _ in right)
        raise UserError(f"{name}: the prediction has {here} frames, the ground truth {there}; cut both alike")


def _batches(pairs: Iterator[tuple[np.ndarray, np.ndarray | None]]) -> Iterator[list]:
    batch = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _fit(prediction: np.ndarray, target: np.ndarray | None, name: str, resize: bool) -> np.ndarray:
    if target is None or prediction.shape == target.shape:
        return prediction
    if not resize:
        (h, w), (th, tw) = prediction.shape[:2], target.shape[:2]
        raise UserError(f"{name}: predicted frames are {w} x {h}, the ground truth's {tw} x {th}; allow resizing")
    return resize_frame(prediction, target.shape[1], target.shape[0])


def resize_frame(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bicubic resize of a uint8 RGB (H, W, 3) frame, antialiased where it shrinks, rounded to 8 bits."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    shrinks = width < image.shape[1] or height < image.shape[0]
    resized = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=shrinks)
    return resized[0].permute(1, 2, 0).clamp(0, 255).round().to(torch.uint8).numpy()
