"""Score restored videos: ``python -m ipfvr.evaluate --pred P [--gt G] [--reference R ...] [--json J]``.

P and G are a video, a folder of frames, or folders with several of either, paired by name. Prints a table with a row a
clip, the mean with its interval, and the protocol without which the numbers mean nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from ipfvr.config import load_config
from ipfvr.devices import choose_device
from ipfvr.errors import run_verb
from ipfvr.files import write_json
from ipfvr.metrics.evaluation import ClipScores, Scorer, evaluate_clip, make_scorer
from ipfvr.metrics.flow import FLOWS
from ipfvr.metrics.inputs import check_pair, find_clips, pair_clips, reference_pictures
from ipfvr.metrics.protocol import markdown_table, protocol, reasons, summarise
from ipfvr.provenance import provenance
from ipfvr.video.footage import Clip
from ipfvr.video.reader import read_image


def main(argv: list[str] | None = None) -> None:
    """See the module's docstring."""
    options = _parser().parse_args(argv)
    config = load_config(options.config, options.overrides)
    device = choose_device(config.device)

    predictions = find_clips(options.pred)
    pairs: list[tuple[Clip, Clip | None]] = [(clip, None) for clip in predictions]
    if options.gt is not None:
        pairs = list(pair_clips(predictions, find_clips(options.gt)))
        for prediction, target in pairs:
            check_pair(prediction, target, options.resize)
    references: dict[str, list[Path]] = {}
    if options.reference:
        references = reference_pictures(options.reference, [clip.name for clip in predictions])

    scorer = make_scorer(config, device, aligned=options.aligned, flow=options.flow)
    rows = score(pairs, references, scorer, resize=options.resize, choose=options.face, quiet=options.quiet)
    infos = scorer.infos()
    named = {name: [str(path) for path in paths] for name, paths in references.items()}
    terms = protocol(rows, scorer, named)
    print(markdown_table(rows, infos))
    for line in reasons(rows, infos):
        print(line)
    print("\nProtocol")
    for subject, sentence in terms.items():
        print(f"- {subject}: {sentence}")
    if options.json is not None:
        content = {
            "metrics": {key: asdict(info) for key, info in infos.items()},
            "mean": {key: asdict(summary) if summary else None for key, summary in summarise(rows).items()},
            "clips": [
                {"prediction": str(p.path), "ground_truth": str(t.path) if t else None, **asdict(row)}
                for (p, t), row in zip(pairs, rows, strict=True)
            ],
            "protocol": terms,
            "references": named,
            "provenance": provenance(config, config.seed, scorer.weights, str(device)),
        }
        write_json(options.json, content)


def score(
    pairs: list[tuple[Clip, Clip | None]],
    references: dict[str, list[Path]],
    scorer: Scorer,
    *,
    resize: bool = False,
    choose: int | None = None,
    quiet: bool = False,
) -> list[ClipScores]:
    """Score pairs of clips one after another, with a progress bar over all frames.

    Args:
        pairs: prediction and ground truth (or None).
        references: clip name to pictures of its person; may be empty.
        scorer: the metrics' networks.
        resize: allow predictions of another size.
        choose: which face of a reference picture is meant, from the left, from 1.
        quiet: no bar.
    """
    rows = []
    embeddings: dict[tuple[Path, ...], torch.Tensor | None] = {}
    with tqdm(total=sum(p.frames for p, _ in pairs), unit="frame", desc="scoring", disable=quiet) as bar:
        for prediction, target in pairs:
            paths = tuple(references.get(prediction.name, ()))
            if paths and paths not in embeddings:
                embeddings[paths] = scorer.embed_reference({str(path): read_image(path) for path in paths}, choose)
            start = bar.n
            rows.append(
                evaluate_clip(
                    prediction,
                    target,
                    embeddings.get(paths),
                    scorer,
                    name=prediction.name,
                    resize=resize,
                    progress=lambda done, start=start: bar.update(start + done - bar.n),
                )
            )
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ipfvr.evaluate", description="Score restored face videos.")
    parser.add_argument("--pred", required=True, help="video, folder of frames, or folder of several clips")
    parser.add_argument("--gt", help="the ground truth, likewise; without it IDS_ref, E_warp_own and NIQE are left")
    parser.add_argument("--reference", nargs="+", help="picture(s) of the person, or a folder with one a clip")
    parser.add_argument("--face", type=int, help="which face of the reference pictures, from the left, from 1")
    parser.add_argument("--json", help="write everything, frame by frame, to this file")
    parser.add_argument("--resize", action="store_true", help="resize predictions to the ground truth's size (bicubic)")
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="frames are aligned crops: IDS takes the template's landmarks, not found ones",
    )
    parser.add_argument(
        "--flow", default="auto", choices=FLOWS, help="behind E_warp; auto: RAFT where its file is there, else DIS"
    )
    parser.add_argument("--config", help="an experiment file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options, such as faces.detector=yunet")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
