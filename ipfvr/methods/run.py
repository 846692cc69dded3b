"""Run one of the tables' rows on a clip, or list all rows with what each still needs."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from ipfvr.core.errors import UserError
from ipfvr.core.files import write_json
from ipfvr.core.options import Config
from ipfvr.core.provenance import provenance
from ipfvr.methods.base import Case
from ipfvr.methods.catalogue import list_methods, make_method
from ipfvr.video.footage import Clip
from ipfvr.video.reader import VideoReader


def run_on_clip(
    name: str,
    low: Path,
    config: Config,
    *,
    output: Path | None = None,
    size: int | None = None,
    references: tuple[Path, ...] = (),
    identity: str = "person",
    prompt: Path | None = None,
    lora: Path | None = None,
) -> str:
    """Restore a low-quality clip by a row of the tables.

    Args:
        name: the name of the row.
        low: a square face crop, a video or a folder of frames.
        config: the configuration.
        output: the folder of frames; None: ``CLIP_METHOD`` beside the clip. A JSON beside it records how it was made.
        size: the side of the output frames, pixels; None: ``video.size``.
        references, identity, prompt, lora: see :class:`ipfvr.methods.base.Case`.

    Returns:
        A summary as text.

    Raises:
        UserError: there is no such clip or row, or the row cannot run.
    """
    method = make_method(name, config)
    if not low.exists():
        raise UserError(f"there is no clip {low}")
    clip, output = Clip(low.stem, low), output or low.with_name(f"{low.stem}_{method.name}")
    fps = VideoReader(low).info.rate if low.is_file() else Fraction(25)
    size = size or config.video.size
    case = Case(low.stem, identity, low, size, clip.frames, fps, references, prompt, lora, config.seed)
    reason = method.missing()
    if reason is not None:
        raise UserError(reason)
    report = method.restore(case, output)
    made = provenance(config, config.seed, report.weights)
    write_json(output.with_name(output.name + ".json"), {"case": asdict(case), "report": asdict(report), **made})
    lines = [f"{output}: {report.frames} frames in {report.seconds:.1f} s"]
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def state(name: str, config: Config) -> str:
    """Return the title of a row and whether it can run."""
    method = make_method(name, config)
    return f"{method.title} ({method.family}; licence: {method.licence}): {method.missing() or 'can run'}"


def table(config: Config) -> str:
    """Return all rows as a Markdown table: title, kind, licence, and whether each can run."""
    lines = ["| row | title | kind | licence | state |", "|---|---|---|---|---|"]
    for name in list_methods(config):
        row = make_method(name, config)
        lines.append(f"| {name} | {row.title} | {row.family} | {row.licence} | {row.missing() or 'can run'} |")
    return "\n".join(lines)
