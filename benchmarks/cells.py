"""What the benchmarks on people held out share: clips and their low-quality twins, cells that are kept, tables."""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ipfvr.data.faces import CLIPS, PICTURES, list_files, list_identities
from ipfvr.degradation import degrade, sample_parameters
from ipfvr.errors import UserError
from ipfvr.files import write_json
from ipfvr.metrics.evaluation import Scorer, make_scorer
from ipfvr.metrics.flow import FLOWS
from ipfvr.metrics.intervals import CONFIDENCE, bootstrap_interval
from ipfvr.models.backbone import weight_files
from ipfvr.options import Config
from ipfvr.provenance import provenance
from ipfvr.restoration import Restorer, plan_windows
from ipfvr.video.reader import VideoReader, read_frames, read_image

REFERENCES = 4  # pictures of a person, at most
MARGIN = 24  # frames between those that are scored and a reference that is cut from the same clip
HELDOUT = Path(__file__).parents[1] / "experiments/mini/heldout.yaml"

Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Clip:
    """A clip of aligned crops.

    Attributes:
        name: the file's, without suffix.
        person: folder of the person.
        file: where it lies.
        seed: of its degradation; it depends on the name alone, not on which other clips are looked at.
    """

    name: str
    person: Path
    file: Path
    seed: int

    def frames(self, count: int, size: int) -> np.ndarray:
        """The first frames, area-averaged: (count, size, size, 3) uint8."""
        return shrink(read_frames(self.file, 0, count), size)


def parse_lists(parser: argparse.ArgumentParser, argv: list[str] | None, *lists: str) -> argparse.Namespace:
    """Arguments; a list option takes all that follows it, so the key=value pairs in it go to ``overrides``."""
    args = parser.parse_intermixed_args(argv)
    for name in lists:
        values = [str(value) for value in getattr(args, name) or []]
        args.overrides += [value for value in values if "=" in value]
        setattr(args, name, [value for value in values if "=" not in value])
    return args


def study_parser(description: str, output: str, frames: int, seeds: list[str]) -> argparse.ArgumentParser:
    """The options of a study on clips of people held out, with its own defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, required=True, help="the layout that experiments/mini/prepare.py makes")
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--identities", nargs="+", default=[], help="default: the people held out of mini's trainings")
    parser.add_argument("--clips", nargs="+", default=[], help="names; default: all that are long enough")
    parser.add_argument("--frames", type=int, default=frames, help="of each clip; shorter clips are left out")
    parser.add_argument("--seeds", nargs="+", default=seeds)
    parser.add_argument("--level", default="heavy", help="of the degradation")
    parser.add_argument("--flow", default="auto", choices=FLOWS, help="behind E_warp")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


def find_clips(root: Path, frames: int, identities: Iterable[str] = (), names: Iterable[str] = ()) -> list[Clip]:
    """Clips ROOT/<identity>/train/* of at least ``frames`` frames; says which are left out as too short.

    Args:
        root: the layout that ``experiments/mini/prepare.py`` makes.
        frames: the least length.
        identities: people; none: those held out of mini's trainings.
        names: clips; none: all.

    Raises:
        UserError: nobody and nothing of these names, or no clip long enough.
    """
    identities, names = set(identities), set(names)
    people = [p for p in list_identities(root) if p.name in identities] if identities else held_out(root)
    if unknown := identities - {p.name for p in people}:
        raise UserError(f"no {', '.join(sorted(unknown))} in {root}")
    files = [f for f in list_files(people, "train", CLIPS) if not names or f.stem in names]
    if unknown := names - {f.stem for f in files}:
        raise UserError(f"none of these people in {root} has a clip {', '.join(sorted(unknown))}")
    lengths = {file: VideoReader(file).info.frames for file in files}
    if short := [f"{file.stem} ({count})" for file, count in lengths.items() if count < frames]:
        print(f"left out, shorter than {frames} frames: {', '.join(short)}")
    clips = [
        Clip(f.stem, f.parent.parent, f, zlib.crc32(f.stem.encode())) for f, count in lengths.items() if count >= frames
    ]
    if not clips:
        raise UserError(f"no clip of these people in {root} has {frames} frames; lower --frames")
    return clips


def held_out(root: Path) -> list[Path]:
    """The people of a data root that no training of mini has seen."""
    return list_identities(root, HELDOUT, held=True)


def shrink(frames: np.ndarray, size: int) -> np.ndarray:
    """(F, H, W, 3) uint8 crops, area-averaged to (F, size, size, 3)."""
    return np.stack([cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in frames])


def degraded(sharp: np.ndarray, config: Config, seed: int) -> np.ndarray:
    """A clip's low-quality twin by Eq. 13, at ``degradation.level``: (F, size / r, size / r, 3) uint8."""
    video, settings = config.video, config.degradation
    return degrade(sharp, sample_parameters(settings.level, video.scale, video.size, seed, settings.scale_sigma))


def clip_scorer(config: Config, flow: str) -> Scorer:
    """What scores aligned crops: fidelity, IDS and E_warp.

    Raises:
        UserError: no recogniser, or no such flow.
    """
    scorer = replace(make_scorer(config, aligned=True, flow=flow), pristine=None)
    for part in ("recogniser", "flow"):
        if getattr(scorer, part) is None:
            raise UserError(scorer.missing[part])
    return scorer


def restored(restorer: Restorer, low: np.ndarray) -> np.ndarray:
    """A video as ``restore`` does it, clip by clip: (F, size, size, 3) uint8."""
    windows = plan_windows([(0, len(low))], restorer.config)
    return np.stack([frame for _, frame in restorer.restore_stream(enumerate(low), windows)])


def references(clip: Clip, frames: int, size: int) -> np.ndarray:
    """Pictures of a clip's person that show nothing of the first ``frames`` frames: (N, size, size, 3) uint8, N <= 4.

    Pictures called ``<clip>_f<frame>`` are frames of the clip itself: they are used only where there is nothing else,
    and only from ``MARGIN`` frames after those that are scored on.
    """
    own, others = f"{clip.name}_f", list_files([clip.person], "reference", PICTURES)
    chosen = [file for file in others if not file.stem.startswith(own)] or [
        file for file in others if int(file.stem.removeprefix(own)) >= frames + MARGIN
    ]
    pictures = [shrink(read_image(file)[None], size) for file in chosen[:REFERENCES]]
    return np.concatenate([np.zeros((0, size, size, 3), np.uint8), *pictures])


class Cells:
    """Scores of what is finished, in a JSON file that is written after each cell: a stopped run goes on.

    Args:
        path: the file; it may be there from an earlier run.
        settings: what all cells must have in common.

    Raises:
        UserError: the file has other settings, or is none of this kind.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.extra = path, {}
        self.settings = json.loads(json.dumps(settings, default=str))
        self.scores: dict[str, dict[str, Any]] = {}
        if path.is_file():
            try:
                found = json.loads(path.read_text())
                before, self.scores = found["settings"], found["cells"]
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path} is no scores file of this benchmark; choose another --output") from None
            if before != self.settings:
                raise UserError(f"{path} was made with other settings; choose another --output, or remove it")

    def __contains__(self, cell: tuple[str, int, str]) -> bool:
        return self._key(cell) in self.scores

    def __getitem__(self, cell: tuple[str, int, str]) -> dict[str, Any]:
        return self.scores[self._key(cell)]

    def __setitem__(self, cell: tuple[str, int, str], scores: dict[str, Any]) -> None:
        self.scores[self._key(cell)] = scores
        self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, {"settings": self.settings, **self.extra, "cells": self.scores})

    def finish(self, config: Config, scorer: Scorer) -> None:
        """Add what the numbers are and what made them."""
        weights = weight_files(config, ("vae", "text", "tokenizer", "denoiser", "adapter", "lora"))
        self.extra = {
            "metrics": {key: asdict(info) for key, info in scorer.infos().items()},
            **provenance(config, config.seed, scorer.weights | weights),
        }
        self.save()

    def covered(self, clips: list[str], seeds: list[int]) -> str:
        """One sentence: what the means are over."""
        return (
            f"{len(clips)} clip{'s' * (len(clips) > 1)} of {self.settings['frames']} frames ({', '.join(clips)}), "
            f"means over seeds {', '.join(map(str, seeds))}, then over clips; intervals by bootstrap over clips."
        )

    def judged(self, scorer: Scorer) -> str:
        """One sentence: whose numbers these are."""
        shares = [cell["visible"] for cell in self.scores.values() if cell["visible"] is not None]
        seen = f", over {np.mean(shares):.0%} of the pixels" if shares else ""
        infos = scorer.infos()
        return f"IDS by {infos['ids_gt'].network}; E_warp by {infos['e_warp_gt'].network}{seen}."

    def by_clip(self, clips: Iterable[str], seeds: Iterable[int], arm: str, metrics: Iterable[str]) -> list[Scores]:
        """One row a clip: the mean over seeds of each metric; None where a seed has no number.

        Args:
            clips: names; of each every seed is finished.
            seeds: which.
            arm: which.
            metrics: keys of a cell.
        """
        seeds, metrics, rows = list(seeds), list(metrics), []
        for clip in clips:
            cells = [self[clip, seed, arm] for seed in seeds]
            values = {key: [cell[key] for cell in cells] for key in metrics}
            rows.append({k: None if None in v else float(np.mean(v)) for k, v in values.items()})
        return rows

    @staticmethod
    def _key(cell: tuple[str, int, str]) -> str:
        return " | ".join(map(str, cell))


def comparison(arms: Mapping[str, list[Scores]], headings: Mapping[str, tuple[str, int]], base: str) -> str:
    """Markdown: means over clips with bootstrap intervals over clips; then each arm minus ``base``, clip by clip.

    Args:
        arms: name to one row a clip, the same clips in the same order.
        headings: metric key to its title and decimals.
        base: the arm that the others are compared with.
    """
    interval = f"{CONFIDENCE:.0%} interval"
    lines = [f"| mean [{interval}] | " + " | ".join(title for title, _ in headings.values()) + " |"]
    lines.append("|---" * (len(headings) + 1) + "|")
    for name, rows in arms.items():
        cells = [_interval([row[key] for row in rows], digits) for key, (_, digits) in headings.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, rows in arms.items():
        if name == base:
            continue
        cells = []
        for key, (_, digits) in headings.items():
            pairs = [(row[key], other[key]) for row, other in zip(rows, arms[base], strict=True)]
            cells.append(_interval([None if None in p else p[0] - p[1] for p in pairs], digits, "+"))
        lines.append(f"| {name} minus {base} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(values: list[float | None], digits: int, sign: str = "") -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "n/a"
    mean = f"{np.mean(there):{sign}.{digits}f}"
    if len(there) < 2:
        return mean
    low, high = bootstrap_interval(there)
    return f"{mean} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
