"""Show what this does, with nothing to download: ``python -m ipfvr.demo [--output demo] [key=value ...]``.

A sharp sample clip is made from what installed packages carry (:mod:`ipfvr.data.sample`), degraded by Eq. 13,
restored by the same function as ``python -m ipfvr.restore --aligned``, and compared with bicubic enlargement.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ipfvr.config import load_config
from ipfvr.data.sample import sample_clip
from ipfvr.degradation import degrade, sample_parameters
from ipfvr.errors import UserError, run_verb
from ipfvr.files import atomic, write_json
from ipfvr.metrics.evaluation import ClipScores, Scorer, evaluate_clip, make_scorer
from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.protocol import protocol, reasons
from ipfvr.options import Config
from ipfvr.pixels import resize, to_frames, to_tensor
from ipfvr.report.pictures import side_by_side, strip
from ipfvr.restore import Job, restore
from ipfvr.video.reader import read_frames
from ipfvr.video.writer import VideoWriter

FRAMES = 48
RATE = Fraction(24)
INPUT_CRF = 8  # the degraded clip as a file: Eq. 13's own compression is the one that should show
TILE = 256  # pixels a frame is shown at
COLUMNS = 6  # frames in the picture


def main(argv: list[str] | None = None) -> None:
    """The verb; the module's docstring shows its use."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--config", type=Path, help="an experiment file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as sampler.steps=8")
    args = parser.parse_intermixed_args(argv)
    print(run(args.output, load_config(args.config, args.overrides)))


def run(folder: Path, config: Config, frames: int = FRAMES) -> str:
    """Make every file of the demo.

    Args:
        folder: gets ``original.mp4``, ``low_quality.mp4``, ``restored.mp4`` with its JSON, ``comparison.mp4``,
            ``comparison.png`` and ``table.md``.
        config: how to degrade and restore.
        frames: length of the sample.

    Returns:
        The table and where each file lies, as text.

    Raises:
        UserError: a folder that cannot be written, weights that are not there.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; name a folder")
    size = config.video.size
    original = sample_clip(frames, size)
    parameters = sample_parameters(
        config.degradation.level, config.video.scale, size, config.seed, config.degradation.scale_sigma
    )
    write_clip(folder / "original.mp4", original, config.video.crf)
    write_clip(folder / "low_quality.mp4", degrade(original, parameters), INPUT_CRF)
    write_json(folder / "low_quality.json", parameters.to_dict())
    job = Job(folder / "low_quality.mp4", folder / "restored.mp4", aligned=True)
    report = restore(job, config)

    # From the files: what is scored and shown is what a person has in hand.
    low, restored = read_frames(job.source), read_frames(job.output)
    bicubic = to_frames(resize(to_tensor(low), size))
    clips = {"low quality": low, "bicubic": bicubic, "restored": restored, "original": original}
    tiles = np.stack([side_by_side({name: clip[i] for name, clip in clips.items()}, TILE) for i in range(frames)])
    write_clip(folder / "comparison.mp4", tiles, config.video.crf)
    columns = np.linspace(0, frames - 1, min(COLUMNS, frames)).round().astype(int)
    write_picture(folder / "comparison.png", strip(clips, columns.tolist(), TILE))

    scorer = make_scorer(config)
    rows = [evaluate_clip(clips[name], original, None, scorer, name=name) for name in ("bicubic", "restored")]
    text = table(rows, scorer, report)
    with atomic(folder / "table.md") as temporary:
        temporary.write_text(text)
    return f"{text}\n{where(folder)}"


def table(rows: list[ClipScores], scorer: Scorer, report: Mapping[str, Any]) -> str:
    """The scores as Markdown: a line for each number that the weights at hand allow, and how it was taken.

    Args:
        rows: bicubic and restored.
        scorer: what scored them.
        report: what :func:`ipfvr.restore.restore` returned.
    """
    infos = scorer.infos()
    shown = {key: info for key, info in infos.items() if all(row.scores[key] is not None for row in rows)}
    headings = ["", *(row.name for row in rows), "better"]
    lines = [[info.heading, *(score(row, info) for row in rows), best(rows, info)] for info in shown.values()]
    widths = [max(len(line[i]) for line in [headings, *lines]) for i in range(len(headings))]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    head = "| " + " | ".join(cell.ljust(w) for cell, w in zip(headings, widths, strict=True)) + " |"
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    # The demo has a ground truth and no reference picture: that scores for the other case are absent is not news.
    expected = {key: info for key, info in infos.items() if not key.endswith(("_ref", "_own"))}
    taken = {info.key.removesuffix("_gt") for info in shown.values()}
    notes = [f"- {subject}: {line}" for subject, line in protocol(rows, scorer).items() if subject in taken]
    notes += [f"- {line}" for line in reasons([_only(row, expected) for row in rows], infos)]
    made = (
        f"{report['frames']} frames restored in {report['seconds']:.1f} s on {report['device']}, peak memory "
        f"{report['peak_memory_mb']} MB. One synthetic clip of one person: an example, not a benchmark."
    )
    return "\n".join([head, rule, *text, "", made, "", *notes, ""])


def _only(row: ClipScores, infos: Mapping[str, MetricInfo]) -> ClipScores:
    return replace(row, missing={key: reason for key, reason in row.missing.items() if key in infos})


def score(row: ClipScores, info: MetricInfo) -> str:
    """A row's number with the metric's decimals."""
    return f"{row.scores[info.key]:.{info.digits}f}"


def best(rows: list[ClipScores], info: MetricInfo) -> str:
    """The name of the row with the better number; both names where they are printed alike."""
    values = [float(score(row, info)) for row in rows]
    wanted = max(values) if info.higher_is_better else min(values)
    return ", ".join(row.name for row, value in zip(rows, values, strict=True) if value == wanted)


def where(folder: Path) -> str:
    """What lies where."""
    names = {
        "restored.mp4": "the restored clip; restored.json says what made it",
        "comparison.mp4": "low quality, bicubic, restored, original, side by side",
        "comparison.png": "the same as a picture",
        "table.md": "the scores above",
        "low_quality.mp4": "what was restored; low_quality.json has the degradation's parameters",
        "original.mp4": "the sharp sample (the astronaut Eileen Collins: NASA, public domain)",
    }
    width = max(len(str(folder / name)) for name in names)
    return "\n".join(f"{folder / name!s:<{width}}  {what}" for name, what in names.items())


def write_clip(path: Path, frames: np.ndarray, crf: int) -> None:
    """Write (F, H, W, 3) uint8 RGB frames as a video."""
    with VideoWriter(path, frames.shape[2], frames.shape[1], RATE, crf=crf) as writer:
        for frame in frames:
            writer.write(frame)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB picture."""
    with atomic(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
