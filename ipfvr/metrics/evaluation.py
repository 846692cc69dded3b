"""Scoring a clip; the evaluate verb, the demo and the tables use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config
from ipfvr.faces.detect import Detector, make_detector
from ipfvr.faces.recognise import Recogniser, embed_faces, load_recogniser
from ipfvr.metrics.base import ClipMetric, FrameMetric
from ipfvr.metrics.columns import COLUMNS
from ipfvr.metrics.fidelity import PSNR, SSIM, SSIM_WINDOW
from ipfvr.metrics.flow import Flow, make_flow
from ipfvr.metrics.identity import IDS, LandmarkFinder, SigmaIDS, embed_reference
from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.niqe import NIQE, Pristine, choose_blocks, load_pristine
from ipfvr.metrics.pairing import batches, fit, paired, unit
from ipfvr.metrics.perceptual import KINDS, Network, Perceptual, load_network
from ipfvr.metrics.warping import WarpingError
from ipfvr.weights.catalogue import ENTRIES
from ipfvr.weights.registry import locate

NO_TARGET = "no ground truth is given"
NO_REFERENCE = "no reference is given"
HAS_TARGET = "the flow is the ground truth's"
CHEAP = ("psnr", "ssim", "ids_gt", "ids_ref", "sigma_ids_gt", "sigma_ids_ref", "e_warp_gt", "e_warp_own", "niqe")
KEYS = (*CHEAP, *KINDS)


@dataclass
class ClipScores:
    """The scores of one clip.

    Attributes:
        name: the clip's.
        frames: how many were scored.
        width: of the frames as scored, pixels.
        height: of the frames as scored, pixels.
        scores: by metric key; None where there is no number.
        missing: why, for each key without a number.
        per_frame: by metric key, one entry per frame, None where a frame has no number.
        visible: mean share of pixels that E_warp counts; None without E_warp.
        landmarks: frames whose landmarks were ``detected``, taken from the ``template``, or had ``no face``.
        resized_from: (width, height) of the prediction where it was resized to the ground truth.
        person: the person in it, if known; empty: a person who is in no other clip.
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
    person: str = ""


@dataclass
class Scorer:
    """The networks behind the metrics, loaded once; a metric without weights says why and is never substituted.

    Attributes:
        keys: the requested numbers, of :data:`KEYS`; by default those that need no large network.
        recogniser: behind IDS and sigma_IDS; None: ``missing["recogniser"]`` says why.
        detector: finds the landmarks of the recogniser's crop; None: ``missing["detector"]`` says why, and square
            frames are taken for aligned crops.
        aligned: frames are aligned crops, whose landmarks are the template's; the detector is for references only.
        pristine: NIQE's parameters; None: ``missing["niqe"]`` says why.
        flow: behind E_warp; None: ``missing["flow"]`` says why.
        perceptual: LPIPS and its like, by key; what is not in it, ``missing[key]`` says why.
        weights: the files, for provenance.
        missing: reasons, by part.
        device: where metrics are computed.
    """

    keys: tuple[str, ...] = CHEAP
    recogniser: Recogniser | None = None
    detector: Detector | None = None
    aligned: bool = False
    pristine: Pristine | None = None
    flow: Flow | None = None
    perceptual: dict[str, Network] = field(default_factory=dict)
    weights: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def metrics(self) -> dict[str, ClipMetric]:
        """Make a new metric for each number, in the tables' order; metrics without weights are left out."""
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
        found += [Perceptual(key, network) for key, network in self.perceptual.items()]
        return {metric.info.key: metric.to(self.device) for metric in found if metric.info.key in self.keys}

    def infos(self) -> dict[str, MetricInfo]:
        """Return the label of every number, with the network behind it where that is loaded."""
        loaded = self.metrics()
        return {key: loaded[key].info if key in loaded else COLUMNS[key] for key in KEYS if key in self.keys}

    def embed_reference(self, pictures: dict[str, np.ndarray], choose: int | None = None) -> Tensor | None:
        """See :func:`ipfvr.metrics.identity.embed_reference`; None without a recogniser."""
        if self.recogniser is None:
            return None
        return embed_reference(self.recogniser, self.detector, pictures, choose)


def make_scorer(
    config: Config,
    device: torch.device | str = "cpu",
    aligned: bool = False,
    flow: str = "auto",
    metrics: Sequence[str] = CHEAP,
) -> Scorer:
    """Load the networks of the metrics; a missing file is noted in ``missing`` and is no error.

    Args:
        config: ``weights.recogniser`` and ``faces`` are used.
        device: where metrics are computed.
        aligned: frames are aligned crops: their landmarks are the template's, none are looked for.
        flow: behind E_warp, see :func:`ipfvr.metrics.flow.make_flow`.
        metrics: keys of the requested numbers; nothing else is loaded.
    """
    scorer = Scorer(tuple(key for key in KEYS if key in metrics), device=torch.device(device), aligned=aligned)

    def recogniser() -> dict[str, Path]:
        scorer.recogniser = load_recogniser(config.weights.recogniser).to(scorer.device)
        return {"recogniser": scorer.recogniser.path}

    def detector() -> dict[str, Path]:
        scorer.detector = make_detector(config.faces)
        return {f"detector ({name})": path for name, path in scorer.detector.weights.items()}

    def flows() -> dict[str, Path]:
        scorer.flow = make_flow(flow)
        return {f"flow ({name})": path for name, path in scorer.flow.weights.items()}

    def pristine() -> dict[str, Path]:
        path = locate("niqe")
        scorer.pristine = load_pristine(path)
        return {"niqe": path}

    def perceptual(key: str) -> dict[str, Path]:
        scorer.perceptual[key] = load_network(key, scorer.device)
        return scorer.perceptual[key].weights

    parts = {
        "recogniser": (recogniser, ("ids_", "sigma_ids_")),
        "detector": (detector, ("ids_", "sigma_ids_")),
        "flow": (flows, ("e_warp_",)),
        "niqe": (pristine, ("niqe",)),
        **{key: (partial(perceptual, key), (key,)) for key in KINDS},
    }
    for part, (load, prefixes) in parts.items():
        if any(key.startswith(prefixes) for key in scorer.keys):
            try:
                scorer.weights |= load()
            except UserError as error:
                scorer.missing[part] = str(error)
    return scorer


def choose_metrics(words: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of metrics that words name: a key, the beginning of several (``ids``, ``e_warp``), or ``all``.

    Raises:
        UserError: an unknown word; the line names the nearest.
    """
    chosen: set[str] = set()
    for word in words:
        found = [key for key in KEYS if word in ("all", key) or key in (f"{word}_gt", f"{word}_ref", f"{word}_own")]
        if not found:
            near = get_close_matches(word, [*KEYS, "all", "ids", "sigma_ids", "e_warp"], 1, 0)[0]
            raise UserError(f"there is no metric '{word}'; the nearest is '{near}'")
        chosen.update(found)
    return tuple(key for key in KEYS if key in chosen)


def evaluate_clip(
    prediction: Iterable[np.ndarray],
    target: Iterable[np.ndarray] | None,
    reference: Tensor | None,
    scorer: Scorer,
    *,
    name: str = "clip",
    resize: bool = False,
    progress: Callable[[int], None] | None = None,
    metrics: dict[str, ClipMetric] | None = None,
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
        metrics: those of ``scorer.metrics()`` of the clips before, to which this one is added; None: new ones.

    Raises:
        UserError: no frames; unequal numbers of frames; unequal sizes without ``resize``.
    """
    metrics = scorer.metrics() if metrics is None else metrics
    finder = LandmarkFinder(None if scorer.aligned else scorer.detector)
    per_frame: dict[str, list[float | None]] = {
        key: [] for key, metric in metrics.items() if isinstance(metric, FrameMetric)
    }
    missing: dict[str, str] = {}
    visible: list[float] = []
    frames, size, original = 0, (0, 0), (0, 0)
    for batch in batches(paired(prediction, target, name)):
        original = batch[0][0].shape[1::-1]
        pairs = [(fit(p, t, name, resize), t) for p, t in batch]
        size = pairs[0][0].shape[1::-1]
        _score_batch(pairs, reference, scorer, metrics, finder)
        missing = _not_applicable(size, target is not None, reference is not None or scorer.recogniser is None, scorer)
        if {"e_warp_gt", "e_warp_own"} <= set(metrics):
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
    for key in scorer.keys:
        value = metrics[key].end_clip() if key in metrics else math.nan
        scores[key] = value if math.isfinite(value) else None
        if scores[key] is None:
            missing.setdefault(key, _reason(key, frames, scorer))
    return ClipScores(
        name,
        frames,
        *size,
        scores,
        {key: reason for key, reason in missing.items() if scores.get(key, 0) is None},
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
    predicted = unit(images).to(scorer.device)
    truths = np.stack([t for _, t in pairs]) if pairs[0][1] is not None else None
    if truths is not None:
        truth = unit(truths).to(scorer.device)
        if "psnr" in metrics:
            metrics["psnr"].update(predicted, truth)
        if "ssim" in metrics and min(images.shape[1:3]) >= SSIM_WINDOW:
            metrics["ssim"].update(predicted, truth)
    if scorer.flow is not None and min(images.shape[1:3]) >= scorer.flow.min_side:
        if truths is None:
            metrics["e_warp_own"].update(predicted)
        else:
            metrics["e_warp_gt"].update(predicted, truth)
    if "niqe" in metrics:
        metrics["niqe"].update(predicted)
    for key in scorer.perceptual:
        if min(images.shape[1:3]) >= KINDS[key].min_side and (truths is not None or not KINDS[key].by_target):
            metrics[key].update(predicted, *([truth] if KINDS[key].by_target else []))
    if scorer.recogniser is not None and (truths is not None or reference is not None):
        landmarks = np.stack([finder.find(image) for image in (truths if truths is not None else images)])
        embeddings = embed_faces(images, landmarks, scorer.recogniser)
        targets = {"ref": reference}
        if truths is not None:
            targets["gt"] = embed_faces(truths, landmarks, scorer.recogniser)
        for suffix, target in targets.items():
            if target is not None:
                for key in {f"ids_{suffix}", f"sigma_ids_{suffix}"} & set(metrics):
                    metrics[key].update(embeddings.to(scorer.device), target.to(scorer.device))


def _not_applicable(size: tuple[int, int], has_target: bool, may_compare: bool, scorer: Scorer) -> dict[str, str]:
    """Reasons that hold for every frame of a clip."""
    reasons = {}
    if has_target:
        reasons["e_warp_own"] = HAS_TARGET
    else:
        reasons |= dict.fromkeys(("psnr", "ssim", "ids_gt", "sigma_ids_gt", "e_warp_gt", "lpips"), NO_TARGET)
    if has_target and min(size) < SSIM_WINDOW:
        reasons["ssim"] = f"frames are smaller than SSIM's window of {SSIM_WINDOW} pixels"
    if scorer.flow is not None and min(size) < scorer.flow.min_side:
        small = f"frames are smaller than the {scorer.flow.min_side} pixels that {scorer.flow.name} needs"
        reasons["e_warp_gt" if has_target else "e_warp_own"] = small
    if not may_compare:
        reasons |= dict.fromkeys(("ids_ref", "sigma_ids_ref"), NO_REFERENCE)
    for key, kind in KINDS.items():
        if min(size) < kind.min_side:
            needed = f"the {kind.min_side} pixels that {COLUMNS[key].title} needs"
            reasons.setdefault(key, f"frames are smaller than {needed}")
    blocks = choose_blocks(size[1], size[0])
    if all((n - blocks.size) // blocks.stride + 1 < 2 for n in size):
        reasons["niqe"] = f"frames hold fewer than two blocks of {blocks}"
    return reasons


def _reason(key: str, frames: int, scorer: Scorer) -> str:
    """Why a metric that applies to the clip has no number."""
    if key in KINDS:
        return scorer.missing.get(key, f"{COLUMNS[key].title} gave no number")
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
