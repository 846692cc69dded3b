"""Averages and intervals over people, the protocol in words, and the printed table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ipfvr.metrics.evaluation import ClipScores, Scorer
from ipfvr.metrics.fidelity import PSNR_LIMIT, SSIM_SIGMA, SSIM_WINDOW
from ipfvr.metrics.info import MetricInfo
from ipfvr.metrics.intervals import CONFIDENCE, RESAMPLES, Summary, summary_of
from ipfvr.metrics.niqe import choose_blocks
from ipfvr.metrics.perceptual import KINDS


def summarise(rows: Sequence[ClipScores]) -> dict[str, Summary | None]:
    """Return means over people by metric key; None: no clip has a number. An unnamed person counts as another one."""
    people = [row.person or f"clip {number}" for number, row in enumerate(rows)]
    return {
        key: summary_of((person, row.scores[key]) for person, row in zip(people, rows, strict=True))
        for key in rows[0].scores
    }


def protocol(
    rows: Sequence[ClipScores], scorer: Scorer, references: dict[str, list[str]] | None = None
) -> dict[str, str]:
    """Return what a reader needs to compare the numbers with others, one sentence per subject.

    Args:
        rows: the scored clips.
        scorer: what scored them.
        references: clip name to the pictures it was compared with.
    """
    resized = [row for row in rows if row.resized_from is not None]
    lines = {
        "frames": f"{sum(row.frames for row in rows)} frames of {len(rows)} clip{'s' * (len(rows) > 1)}, scored whole "
        "(no crop), 8-bit RGB of full range",
        "resize": "none"
        if not resized
        else f"prediction to ground truth in {len(resized)} of {len(rows)} clips ("
        + ", ".join(sorted({f"{'x'.join(map(str, r.resized_from))} to {r.width}x{r.height}" for r in resized}))
        + "), bicubic, antialiased where it shrinks, rounded to 8 bits",
        "means": _means_line(rows),
        "psnr": f"error over R, G and B in [0, 1]; equal frames count as {PSNR_LIMIT:.0f} dB",
        "ssim": f"mean over R, G and B; Gaussian window {SSIM_WINDOW}, sigma {SSIM_SIGMA}, border left out",
        "ids": _ids_line(rows, scorer),
        "sigma_ids": "population standard deviation of a clip's IDS over its frames, x 100; no number for one frame",
        "e_warp": _warping_line(rows, scorer),
        "niqe": _niqe_line(rows, scorer),
        **{key: _perceptual_line(key, scorer) for key in KINDS},
    }
    requested = {key.removesuffix(end) for key in scorer.keys for end in ("", "_gt", "_ref", "_own")}
    lines = {subject: line for subject, line in lines.items() if subject in requested | {"frames", "resize", "means"}}
    if references:
        distinct = sorted({picture for pictures in references.values() for picture in pictures})
        shown = ", ".join(distinct) if len(distinct) <= 4 else f"{len(distinct)} pictures"
        lines["reference"] = f"{shown}; of several pictures of one person the mean embedding"
    return lines


def _means_line(rows: Sequence[ClipScores]) -> str:
    unnamed = sum(not row.person for row in rows)
    people = len({row.person for row in rows if row.person}) + unnamed
    line = (
        "over the frames of a clip, over the clips of a person, then over people, who count the same; intervals: "
        f"{CONFIDENCE:.0%} two-level bootstrap over people, then their clips ({people} and {len(rows)} here), "
        f"{RESAMPLES} resamples, seed 0"
    )
    return line + (f"; the person in {unnamed} of the clips is unknown: each counts as another person" * bool(unnamed))


def _ids_line(rows: Sequence[ClipScores], scorer: Scorer) -> str:
    if scorer.recogniser is None:
        return "n/a"
    net = scorer.recogniser
    counts = sum((Counter(row.landmarks) for row in rows), Counter())
    if scorer.aligned:
        found = "the aligned crop's template was requested"
    elif scorer.detector is None:
        found = f"no detector ({scorer.missing.get('detector', 'none was given')})"
    else:
        found = scorer.detector.name
    return (
        f"cosine of {net.name} embeddings (sha256 {net.sha256}, {net.licence}); 5-point similarity to the ArcFace 112 "
        f"template, the same points for prediction and ground truth, found on the ground truth where there is one, "
        f"else on the prediction; landmarks: {found}; detected in {counts['detected']} frames, the aligned crop's "
        f"template in {counts['template']}, no face in {counts['no face']} (not scored)"
    )


def _warping_line(rows: Sequence[ClipScores], scorer: Scorer) -> str:
    shares = [row.visible for row in rows if row.visible is not None]
    if scorer.flow is None or not shares:
        return "n/a"
    return (
        f"{scorer.flow.name} ({scorer.flow.licence}) between consecutive frames of the ground truth (E_warp), or of "
        "the prediction itself where there is none (own flow: not to be compared with the other); mean square over "
        "R, G and B in [0, 1] and visible pixels, x 1000; visible: forward and backward flow agree, no border of "
        f"motion, inside the frame ({np.mean(shares):.1%} of the pixels); only pairs within one clip"
    )


def _niqe_line(rows: Sequence[ClipScores], scorer: Scorer) -> str:
    if scorer.pristine is None:
        return "n/a"
    sizes = sorted({(row.width, row.height) for row in rows})
    cuts = "; ".join(f"at {w} x {h} blocks of {choose_blocks(h, w)}" for w, h in sizes)
    return f"prediction alone, rounded luma, two scales; {cuts}; values of different blocks are not to be compared"


def _perceptual_line(key: str, scorer: Scorer) -> str:
    if key not in scorer.perceptual:
        return "n/a"
    kind, info = KINDS[key], scorer.infos()[key]
    against = "prediction against ground truth" if kind.by_target else "prediction alone"
    return (
        f"{against}, frames in [0, 1] as they are; pyiqa's {kind.name}: {info.source}, {info.network}; {info.licence}"
    )


def markdown_table(rows: Sequence[ClipScores], infos: dict[str, MetricInfo]) -> str:
    """Return a table with one row for each clip, then the mean over people and its interval; 'n/a': no number."""
    summaries = summarise(rows)
    table = [["clip", "frames", *(info.heading for info in infos.values())]]
    for row in rows:
        table.append([row.name, str(row.frames), *(_number(row.scores[key], info) for key, info in infos.items())])
    if len(rows) > 1:
        means = {key: summary.mean if summary else None for key, summary in summaries.items()}
        table.append(["**mean**", str(sum(r.frames for r in rows)), *(_number(means[k], i) for k, i in infos.items())])
        cells = []
        for key, info in infos.items():
            s = summaries[key]
            has = s is not None and s.low is not None
            cells.append(f"{_number(s.low, info)} to {_number(s.high, info)}" if has else "n/a")
        table.append([f"{CONFIDENCE:.0%} interval", "", *cells])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in table]
    rule = "|" + "|".join("-" * (w + 1) + (":" if column else "-") for column, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def reasons(rows: Sequence[ClipScores], infos: dict[str, MetricInfo]) -> list[str]:
    """Return one line for each reason that some number is 'n/a'."""
    found: dict[str, list[str]] = {}
    clips: dict[str, set[str]] = {}
    for row in rows:
        for key, reason in row.missing.items():
            titles = found.setdefault(reason, [])
            if infos[key].title not in titles:
                titles.append(infos[key].title)
            clips.setdefault(reason, set()).add(row.name)
    lines = []
    for reason, titles in found.items():
        where = "" if len(clips[reason]) == len(rows) else f" ({', '.join(sorted(clips[reason]))})"
        lines.append(f"n/a {', '.join(titles)}{where}: {reason}")
    return lines


def _number(value: float | None, info: MetricInfo) -> str:
    return "n/a" if value is None else f"{value:.{info.digits}f}"
