"""The demo's content: a sample degraded, restored and scored on one page, or the user's film before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.conditioning.pictures import describe_pictures
from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic, write_json
from ipfvr.core.options import Config
from ipfvr.core.pixels import resize_frames
from ipfvr.data.paired import REAL, low_quality
from ipfvr.data.sample import portrait, sample_clip
from ipfvr.film.job import Job
from ipfvr.film.run import restore
from ipfvr.film.source import open_source, writable_ending
from ipfvr.metrics.evaluation import ClipScores, Scorer, evaluate_clip, make_scorer
from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.protocol import protocol, reasons
from ipfvr.report.demo_page import demo_page
from ipfvr.video.mux import CONTAINERS
from ipfvr.video.reader import read_frames, read_image
from ipfvr.video.strips import side_by_side, strip
from ipfvr.video.writer import write_picture, write_video
from ipfvr.weights.catalogue import ENTRIES
from ipfvr.weights.registry import find

FRAMES = 48
RATE = Fraction(24)
INPUT_CRF = 8  # the degraded clip as a file: Eq. 13's own compression is the one that should show
SHIPPED_JUDGE = "mini/dlib"
TILE = 256  # pixels a frame is shown at
COLUMNS = 6  # frames in the picture
BICUBIC, ALONE, SHOWN, TRUTH = "bicubic", "no reference", "with reference", "original"
ABOUT = (
    "The sample: a camera moves over a portrait of the astronaut Eileen Collins (NASA, public domain). The "
    "reference is that same portrait, so it flatters: your own --video and --reference say more."
)
PAGE = "index.html"
FILES = {
    PAGE: "all of it on one page, to open in a browser",
    "restored.mp4": "the clip restored with the reference; restored.json says what made it",
    "no_reference.mp4": "the same without the reference",
    "comparison.mp4": "all versions side by side",
    "comparison.png": "the same as a picture",
    "table.md": "the scores above",
    "low_quality.mp4": "what was restored; low_quality.json has the degradation's parameters",
    "original.mp4": "the sharp clip",
}


def run_own(folder: Path, config: Config, video: Path, references: Sequence[Path], frames: int | None = None) -> str:
    """Restore the user's own video as it is, and show it before and after.

    Args:
        folder: gets the restored film, its JSON and the page.
        config: how to restore.
        video: any video, or a picture.
        references: pictures of the person; without any every face is restored.
        frames: only the first so many; None: all.

    Returns:
        Where each file lies, as text.

    Raises:
        UserError: as :func:`ipfvr.film.run.restore`.
    """
    part = None if frames is None else (0, min(frames, len(open_source(video, config.video))))
    job = Job(video, folder / f"restored{writable_ending(video)}", references=tuple(references), part=part)
    _clear(folder, video)
    report = restore(job, config, page=folder / PAGE)
    text = f"{report['restored']} of {report['frames']} frames restored in {report['seconds']:.1f} s"
    shown = {PAGE: "frames before and after, to open in a browser"}
    return f"{text}\n{where(folder, {**shown, job.output.name: 'the film; restored.json says what made it'})}"


def run(folder: Path, config: Config, frames: int, level: str) -> str:
    """Make every file of the demo of the sample.

    Args:
        folder: gets :data:`FILES`.
        config: how to degrade and restore.
        frames: length of the clip.
        level: of the degradation: ``light``, ``heavy`` or ``severe``.

    Returns:
        The table and where each file lies, as text.

    Raises:
        UserError: a folder that cannot be written, weights that are not there, a level that is unknown or
            ``real``.
    """
    if level == REAL:
        raise UserError(f"--level {REAL}: the sample is sharp; give light, heavy or severe")
    _clear(folder)
    size, scale = config.video.size, config.video.scale
    sharp, reference = sample_clip(frames, size), folder / "reference.png"
    low, parameters = low_quality(sharp, level, scale, config.seed, config.degradation.scale_sigma)
    write_picture(reference, portrait(), 9)
    files = {"low quality": folder / "low_quality.mp4"}
    source = files["low quality"]
    write_video(source, low, RATE, INPUT_CRF)
    write_json(folder / "low_quality.json", parameters and parameters.to_dict())
    write_video(folder / "original.mp4", sharp, RATE, config.video.crf)
    jobs = {
        ALONE: Job(source, folder / "no_reference.mp4", aligned=True),
        # The clip is made from this picture: a LoRA that has learned it would be tested on what it was trained on.
        SHOWN: Job(source, folder / "restored.mp4", references=(reference,), aligned=True, learn=False),
    }
    reports = {name: restore(job, config) for name, job in jobs.items()}

    # From the files: what is scored and shown is what a person has in hand.
    shown = read_frames(source)
    clips = {"low quality": shown, BICUBIC: resize_frames(shown, size)}
    for name, job in jobs.items():
        clips[name], files[name] = read_frames(job.output), job.output
    clips[TRUTH], files[TRUTH] = sharp, folder / "original.mp4"
    tiles = [side_by_side({name: clip[i] for name, clip in clips.items()}, TILE) for i in range(len(sharp))]
    write_video(folder / "comparison.mp4", tiles, RATE, config.video.crf)
    columns = np.linspace(0, len(sharp) - 1, min(COLUMNS, len(sharp))).round().astype(int)
    picture = strip(clips, columns.tolist(), TILE)
    write_picture(folder / "comparison.png", picture, 9)

    judging, remark = judge(config)
    scorer = make_scorer(judging, aligned=True)
    person = scorer.embed_reference({str(reference): read_image(reference)})
    rows = [evaluate_clip(clips[n], sharp, person, scorer, name=n) for n in (BICUBIC, *jobs)]
    lines = table(rows, scorer)
    notes = [made(reports), *([remark] if remark else []), *notes_of(rows, scorer)]
    text = "\n".join([markdown(lines), "", *(f"- {note}" for note in notes), ""])
    with atomic(folder / "table.md") as temporary:
        temporary.write_text(text)
    words = describe_pictures((reference,), config)
    with atomic(folder / PAGE) as temporary:
        temporary.write_text(demo_page(ABOUT, files, picture, lines, notes, rows, words))
    return f"{text}\n{where(folder)}"


def judge(config: Config) -> tuple[Config, str]:
    """Return the configuration with an available recogniser, and a note if it is not the configured one."""
    name = config.weights.recogniser
    if name not in ENTRIES or find(ENTRIES[name]) is not None:
        return config, ""
    remark = (
        f"IDS here is by {SHIPPED_JUDGE}, which the image prompt was trained with: it flatters, and its cosines lie "
        f"close to 1. An independent judge: python -m ipfvr.weights fetch {name}"
    )
    return replace(config, weights=replace(config.weights, recogniser=SHIPPED_JUDGE)), remark


def table(rows: Sequence[ClipScores], scorer: Scorer) -> list[list[str]]:
    """Return headings, then a line for each available number: the metric, each row's number, the better rows."""
    infos = scorer.infos()
    shown = {key: info for key, info in infos.items() if all(row.scores[key] is not None for row in rows)}
    return [
        ["", *(row.name for row in rows), "better"],
        *([info.heading, *(score(row, info) for row in rows), best(rows, info)] for info in shown.values()),
    ]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the first of them headings, as a table with its columns under one another."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([text[0], rule, *text[1:]])


def made(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the time and memory of the restoration, as text."""
    seconds = sum(report["seconds"] for report in reports.values())
    last = list(reports.values())[-1]
    frames = " and ".join([str(last["frames"])] * len(reports))
    return (
        f"{frames} frames restored in {seconds:.1f} s on {last['device']}, peak memory {last['peak_memory_mb']} MB. "
        "One clip of one person: an example, not a benchmark."
    )


def notes_of(rows: Sequence[ClipScores], scorer: Scorer) -> list[str]:
    """Return notes on how the numbers were measured, and why some are missing."""
    infos = scorer.infos()
    taken = {key for key in infos if all(row.scores[key] is not None for row in rows)}
    subjects = {_subject(key) for key in taken}
    lines = [f"{subject}: {line}" for subject, line in protocol(rows, scorer).items() if subject in subjects]
    # A number that is there to the truth and not to a reference, or the other way round, is not missed.
    missed = {key: info for key, info in infos.items() if key not in taken and _subject(key) not in subjects}
    lacking = [replace(row, missing={k: why for k, why in row.missing.items() if k in missed}) for row in rows]
    return [*lines, *reasons(lacking, missed)]


def _subject(key: str) -> str:
    """Return the subject of a metric without its target: ``ids`` for ``ids_gt``."""
    return key.removesuffix("_gt").removesuffix("_ref").removesuffix("_own")


def score(row: ClipScores, info: MetricInfo) -> str:
    """Return a row's number with the metric's decimals."""
    return f"{row.scores[info.key]:.{info.digits}f}"


def best(rows: Sequence[ClipScores], info: MetricInfo) -> str:
    """Return the name of the row with the best number; several names where they are printed alike."""
    values = [float(score(row, info)) for row in rows]
    best_value = max(values) if info.higher_is_better else min(values)
    return ", ".join(row.name for row, value in zip(rows, values, strict=True) if value == best_value)


def where(folder: Path, files: Mapping[str, str] = FILES) -> str:
    """The files that exist, each with its description."""
    there = {name: what for name, what in files.items() if (folder / name).exists()}
    width = max(len(str(folder / name)) for name in there)
    return "\n".join(f"{folder / name!s:<{width}}  {what}" for name, what in there.items())


def _clear(folder: Path, kept: Path | None = None) -> None:
    """Remove what an earlier run left, which was about somebody else; not ``kept``, which is this run's input."""
    for name in (*FILES, "low_quality.json", *(f"restored{suffix}" for suffix in (*CONTAINERS, ".json"))):
        path = folder / name
        if path.exists() and not (kept and kept.exists() and path.samefile(kept)):
            path.unlink()
