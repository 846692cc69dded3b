"""Score restored videos as files, against the truth and against references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf

from ipfvr.core.config import load_yaml
from ipfvr.core.devices import choose_device
from ipfvr.core.errors import UserError
from ipfvr.core.files import write_json
from ipfvr.core.options import Config
from ipfvr.core.provenance import provenance
from ipfvr.data.scoring import Item
from ipfvr.metrics.evaluation import CHEAP, ClipScores, Scorer, choose_metrics, make_scorer
from ipfvr.metrics.inputs import check_pair, find_clips, pair_clips, reference_pictures
from ipfvr.metrics.protocol import markdown_table, protocol, reasons, summarise
from ipfvr.training.evaluation import Evaluation, evaluate_items
from ipfvr.video.footage import Clip


@dataclass(frozen=True)
class Request:
    """A request to score videos.

    Attributes:
        predictions: a video, a folder of frames, or a folder with several of either.
        targets: the ground truth in the same form, paired by name; None: only metrics without ground truth.
        references: pictures of the person, or a folder with one picture for each clip.
        people: a YAML file that maps each person to clip names; None: clips with the same references show one person.
        face: which face of the reference pictures, counted from 1 on the left; None: there is only one.
        metrics: the names of the metrics; empty: the fast ones.
        flow: the optical flow for E_warp: ``auto``, ``raft`` or ``dis``.
        aligned: whether the frames are aligned crops, whose landmarks are the template's.
        resize: whether to resize predictions to the ground truth's size.
        devices: the number of processes that share the clips.
        json: the file for all scores, frame by frame; None: no file is written.
    """

    predictions: str
    targets: str | None = None
    references: tuple[str, ...] = ()
    people: str | None = None
    face: int | None = None
    metrics: tuple[str, ...] = ()
    flow: str = "auto"
    aligned: bool = False
    resize: bool = False
    devices: int = 1
    json: str | None = None


class Scored(NamedTuple):
    """The result of a request.

    Attributes:
        text: a table with one row for each clip, the mean with its interval, and the protocol.
        missing: the reason for each requested metric that could not be computed for any clip.
    """

    text: str
    missing: dict[str, str]


def evaluate_files(request: Request, config: Config) -> Scored | None:
    """Score clips.

    Args:
        request: the request.
        config: its sections ``weights``, ``faces`` and ``device`` are used.

    Returns:
        The table and the missing metrics; None in every process but the first.

    Raises:
        UserError: files cannot be read or paired, a metric or flow is unknown, or the file of people lacks a clip.
    """
    device = choose_device(config.device)
    metrics = choose_metrics(request.metrics or CHEAP)
    items, named = _items(request)
    people = whose_clips(request.people, [item.prediction.name for item in items], named)

    def make(device: torch.device) -> Scorer:
        return make_scorer(config, device, aligned=request.aligned, flow=request.flow, metrics=metrics)

    done = evaluate_items(items, make, device, request.devices, resize=request.resize, choose=request.face)
    if not done.trainer.is_global_zero:
        return None
    done.rows = [replace(row, person=people.get(row.name, "")) for row in done.rows]
    infos = done.scorer.infos()
    terms = protocol(done.rows, done.scorer, named)
    if request.json is not None:
        made = provenance(config, config.seed, done.scorer.weights, str(device))
        write_json(request.json, {**_record(items, done, terms), "references": named, "provenance": made})
    lines = [markdown_table(done.rows, infos), *reasons(done.rows, infos), "", "Protocol"]
    text = "\n".join([*lines, *(f"- {subject}: {sentence}" for subject, sentence in terms.items())])
    return Scored(text, _missing(request.metrics, done.rows))


def _missing(requested: Sequence[str], rows: Sequence[ClipScores]) -> dict[str, str]:
    """Return ``missing`` of :class:`Scored`; ``all`` requests only the metrics that are available."""
    found = {}
    for word in requested:
        keys = choose_metrics([word]) if word != "all" else ()
        reasons = [row.missing.get(key, "") for row in rows for key in keys]
        if reasons and all(reasons):
            found[word] = reasons[0]
    return found


def _items(request: Request) -> tuple[list[Item], dict[str, list[str]]]:
    """Return the clips with their targets and references, and the names of each clip's references."""
    predictions = find_clips(request.predictions)
    targets: list[Clip | None] = [None] * len(predictions)
    if request.targets is not None:
        matched = pair_clips(predictions, find_clips(request.targets))
        for prediction, target in matched:
            check_pair(prediction, target, request.resize)
        targets = [target for _, target in matched]
    references: dict[str, list[Path]] = {}
    if request.references:
        references = reference_pictures(list(request.references), [clip.name for clip in predictions])
    items = [
        Item(index, prediction, target, tuple(references.get(prediction.name, ())))
        for index, (prediction, target) in enumerate(zip(predictions, targets, strict=True))
    ]
    return items, {name: [str(path) for path in paths] for name, paths in references.items()}


def whose_clips(file: str | None, clips: Sequence[str], references: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Find out which person is in which clip.

    Args:
        file: a YAML file that maps each person to clip names; None: clips with the same references show one person,
            and the person in a clip without references is unknown.
        clips: the names of the clips.
        references: the reference pictures of each clip.

    Returns:
        The person in each clip whose person is known.

    Raises:
        UserError: the file is missing or has another form, or it does not name a clip.
    """
    if file is None:
        return {clip: " ".join(references[clip]) for clip in clips if references.get(clip)}
    listed = OmegaConf.to_object(load_yaml(Path(file), "file of people"))
    if not isinstance(listed, dict) or not all(isinstance(names, list) for names in listed.values()):
        raise UserError(f"--people {file} must list the clips of each person, such as 'anna: [clip_1, clip_2]'")
    people = {str(clip): str(person) for person, names in listed.items() for clip in names}
    if unnamed := [clip for clip in clips if clip not in people]:
        raise UserError(f"--people {file} does not say who is in {', '.join(unnamed)}: add them to a person's list")
    return people


def _record(items: list[Item], done: Evaluation, terms: Mapping[str, str]) -> dict[str, Any]:
    """Return the scores as the JSON file holds them."""
    return {
        "metrics": {key: asdict(info) for key, info in done.scorer.infos().items()},
        "mean": {key: asdict(summary) if summary else None for key, summary in summarise(done.rows).items()},
        "clips": [
            {
                "prediction": str(item.prediction.path),
                "ground_truth": str(item.target.path) if item.target else None,
                **asdict(row),
            }
            for item, row in zip(items, done.rows, strict=True)
        ],
        "protocol": terms,
        "processes": done.trainer.world_size,
    }
