"""Score restored videos: ``python -m ipfvr.evaluate --pred P [--gt G] [--reference R ...] [--metrics M ...]``.

P and G are a video, a folder of frames, or folders with several of either, paired by name. Prints a row a clip, the
mean over people with its interval, and the protocol without which the numbers mean nothing. Where a metric that was
asked for has no number of any clip, the exit code is 3.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ipfvr.core.errors import NotComputedError, run_verb
from ipfvr.core.messages import show_messages


def main(argv: list[str] | None = None) -> None:
    """See the module's docstring."""
    options = make_parser().parse_args(argv)
    # --metrics and --reference take all that follows them, the key=value pairs too.
    lists = [*options.metrics, *options.reference]
    pairs = [word for word in lists if "=" in word and not Path(word).exists()]
    # Imported here: --help needs none of the seconds that this takes.
    from ipfvr.core.config import load_config
    from ipfvr.study.evaluate import Request, evaluate_files

    if options.quiet:
        show_messages(logging.WARNING)
    request = Request(
        predictions=options.pred,
        targets=options.gt,
        references=tuple(word for word in options.reference if word not in pairs),
        people=options.people,
        face=options.face,
        metrics=tuple(part for word in options.metrics if word not in pairs for part in word.split(",") if part),
        flow=options.flow,
        aligned=options.aligned,
        resize=options.resize,
        devices=options.devices,
        json=options.json,
    )
    scored = evaluate_files(request, load_config(options.config, [*options.overrides, *pairs]))
    if scored is None:
        return
    print(scored.text)
    if scored.missing:
        named = "; ".join(f"{metric} ({reason})" for metric, reason in scored.missing.items())
        raise NotComputedError(f"asked for and not computed: {named}")


def make_parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.evaluate", description="Score restored face videos.")
    parser.add_argument("--pred", required=True, help="video, folder of frames, or folder of several clips")
    parser.add_argument(
        "--gt", help="the ground truth, likewise; without it IDS to reference, E_warp by the own flow and NIQE are left"
    )
    parser.add_argument(
        "--reference", nargs="+", default=[], help="picture(s) of the person, or a folder with one a clip"
    )
    parser.add_argument(
        "--people",
        metavar="FILE.yaml",
        help="who is in which clip, 'anna: [clip_1, clip_2]': intervals are over people (else: clips with the same "
        "references show one person, and each clip without any another one)",
    )
    parser.add_argument("--face", type=int, help="which face of the reference pictures, from the left, from 1")
    parser.add_argument("--json", help="write everything, frame by frame, to this file")
    parser.add_argument("--resize", action="store_true", help="resize predictions to the ground truth's size (bicubic)")
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="frames are aligned crops: IDS takes the template's landmarks, not found ones",
    )
    parser.add_argument(
        "--flow",
        default="auto",
        metavar="auto|raft|dis",
        help="behind E_warp; auto: RAFT where its file is there, else DIS",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=(),
        help="which: psnr ssim ids sigma_ids e_warp niqe (the default), lpips clip_iqa musiq liqe (by pyiqa), or all",
    )
    parser.add_argument("--devices", type=int, default=1, help="processes that share the clips (GPUs where there are)")
    parser.add_argument("--config", help="an experiment file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options, such as faces.detector=yunet")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
