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
    """What is to be scored, and how.

    Attributes:
        predictions: a video, a folder of frames, or a folder with several of either.
        targets: the ground truth, likewise, paired by name; None: metrics that need none.
        references: pictures of the person, or a folder with one a clip.
        people: a YAML file, person to the names of their clips; None: clips with the same references show one person.
        face: which face of the reference pictures, from the left, from 1; None: there is but one.
        metrics: their names; none: the cheap ones.
        flow: what finds motion for E_warp: ``auto``, ``raft`` or ``dis``.
        aligned: the frames are aligned crops, whose landmarks are the template's.
        resize: resize predictions to the ground truth's size.
        devices: processes that share the clips.
        json: where everything is written, frame by frame; None: nowhere.
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
    """What came of a request.

    Attributes:
        text: a table with a row a clip, the mean with its interval, and the protocol.
        missing: why, by each metric that was asked for by name and that no clip has.
    """

    text: str
    missing: dict[str, str]


def evaluate_files(request: Request, config: Config) -> Scored | None:
    """Score clips.

    Args:
        request: what is to be scored.
        config: ``weights``, ``faces`` and ``device`` are used.

    Returns:
        None in a process that is not the first of several.

    Raises:
        UserError: files that cannot be read or paired, an unknown metric or flow, a file of people without all clips.
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


def _missing(asked: Sequence[str], rows: Sequence[ClipScores]) -> dict[str, str]:
    """See :class:`Scored`; ``all`` asks for what there is."""
    found = {}
    for word in asked:
        keys = choose_metrics([word]) if word != "all" else ()
        reasons = [row.missing.get(key, "") for row in rows for key in keys]
        if reasons and all(reasons):
            found[word] = reasons[0]
    return found


def _items(request: Request) -> tuple[list[Item], dict[str, list[str]]]:
    """The clips with their targets and references, and the references' names of each clip."""
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
    """Who is in which clip.

    Args:
        file: YAML, person to the names of their clips; None: clips that are compared with the same pictures show one
            person, and who is in a clip without any is not known.
        clips: their names.
        references: clip to its pictures.

    Returns:
        Clip to person; without those of whom nothing is known.

    Raises:
        UserError: a file that is not there or says something else, a clip that it does not name.
    """
    if file is None:
        return {clip: " ".join(references[clip]) for clip in clips if references.get(clip)}
    said = OmegaConf.to_object(load_yaml(Path(file), "file of people"))
    if not isinstance(said, dict) or not all(isinstance(names, list) for names in said.values()):
        raise UserError(f"--people {file} must say of each person which clips show them: 'anna: [clip_1, clip_2]'")
    people = {str(clip): str(person) for person, names in said.items() for clip in names}
    if unnamed := [clip for clip in clips if clip not in people]:
        raise UserError(f"--people {file} does not say who is in {', '.join(unnamed)}: add them to somebody's list")
    return people


def _record(items: list[Item], done: Evaluation, terms: Mapping[str, str]) -> dict[str, Any]:
    """What the JSON says of the scores."""
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
