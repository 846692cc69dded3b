"""Score restored videos: ``python -m ipfvr.evaluate --pred P [--gt G] [--reference R ...] [--metrics M ...]``.

P and G are a video, a folder of frames, or folders with several of either, paired by name. The command prints a table
with one row for each clip, the mean over people with its interval, and the protocol, without which the numbers mean
nothing. The exit code is 3 if a requested metric could not be computed for any clip.
"""

from __future__ import annotations

import argparse
import logging

from ipfvr.core.arguments import parse_lists
from ipfvr.core.errors import NotComputedError, run_verb
from ipfvr.core.messages import show_messages


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    options = parse_lists(make_parser(), argv, "metrics", "reference")
    # Imported here, since this takes seconds that --help does not need.
    from ipfvr.core.config import load_config
    from ipfvr.study.evaluate import Request, evaluate_files

    if options.quiet:
        show_messages(logging.WARNING)
    request = Request(
        predictions=options.pred,
        targets=options.gt,
        references=tuple(options.reference),
        people=options.people,
        face=options.face,
        metrics=tuple(part for word in options.metrics for part in word.split(",") if part),
        flow=options.flow,
        aligned=options.aligned,
        resize=options.resize,
        devices=options.devices,
        json=options.json,
    )
    scored = evaluate_files(request, load_config(options.config, options.overrides))
    if scored is None:
        return
    print(scored.text)
    if scored.missing:
        named = "; ".join(f"{metric} ({reason})" for metric, reason in scored.missing.items())
        raise NotComputedError(f"could not be computed: {named}")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.evaluate", description="Score restored face videos.")
    parser.add_argument("--pred", required=True, help="video, folder of frames, or folder of several clips")
    parser.add_argument(
        "--gt",
        help="the ground truth, as --pred; without it only IDS to the reference, E_warp by its own flow, and NIQE",
    )
    parser.add_argument(
        "--reference", nargs="+", default=[], help="picture(s) of the person, or a folder with one for each clip"
    )
    parser.add_argument(
        "--people",
        metavar="FILE.yaml",
        help="the clips of each person, 'anna: [clip_1, clip_2]', since intervals are over people (default: clips with "
        "the same references show one person, and each clip without references another one)",
    )
    parser.add_argument("--face", type=int, help="which face of the reference pictures, counted from 1 on the left")
    parser.add_argument("--json", help="write all scores, frame by frame, to this file")
    parser.add_argument("--resize", action="store_true", help="resize predictions to the ground truth's size (bicubic)")
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="frames are aligned crops: IDS uses the landmarks of the template and detects no face",
    )
    parser.add_argument(
        "--flow",
        default="auto",
        metavar="auto|raft|dis",
        help="the optical flow of E_warp; auto: RAFT if its file is there, else DIS",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=(),
        help="metrics: psnr ssim ids sigma_ids e_warp niqe (default), lpips clip_iqa musiq liqe (by pyiqa), or all",
    )
    parser.add_argument(
        "--devices", type=int, default=1, help="processes that share the clips, one for each GPU if there are any"
    )
    parser.add_argument("--config", help="an experiment file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options, such as faces.detector=yunet")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
