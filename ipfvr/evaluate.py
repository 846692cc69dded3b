"""Score restored videos: ``python -m ipfvr.evaluate --pred P [--gt G] [--reference R ...] [--metrics M ...]``.

P and G are a video, a folder of frames, or folders with several of either, paired by name. Prints a table with a row a
clip, the mean with its interval, and the protocol without which the numbers mean nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from ipfvr.config import load_config
from ipfvr.data.scoring import Item
from ipfvr.devices import choose_device
from ipfvr.errors import run_verb
from ipfvr.files import write_json
from ipfvr.metrics.evaluation import CHEAP, Scorer, choose_metrics, make_scorer
from ipfvr.metrics.flow import FLOWS
from ipfvr.metrics.inputs import check_pair, find_clips, pair_clips, reference_pictures
from ipfvr.metrics.protocol import markdown_table, protocol, reasons, summarise
from ipfvr.provenance import provenance
from ipfvr.training.evaluation import evaluate_items
from ipfvr.video.footage import Clip


def main(argv: list[str] | None = None) -> None:
    """See the module's docstring."""
    options = _parser().parse_args(argv)
    # --metrics and --reference take all that follows them, the key=value pairs too.
    lists = [*options.metrics, *options.reference]
    pairs = [word for word in lists if "=" in word and not Path(word).exists()]
    config = load_config(options.config, [*options.overrides, *pairs])
    device = choose_device(config.device)
    metrics = choose_metrics([word for word in options.metrics if word not in pairs])

    predictions = find_clips(options.pred)
    targets: list[Clip | None] = [None] * len(predictions)
    if options.gt is not None:
        matched = pair_clips(predictions, find_clips(options.gt))
        for prediction, target in matched:
            check_pair(prediction, target, options.resize)
        targets = [target for _, target in matched]
    references: dict[str, list[Path]] = {}
    if options.reference:
        pictures = [word for word in options.reference if word not in pairs]
        references = reference_pictures(pictures, [clip.name for clip in predictions])
    items = [
        Item(index, prediction, target, tuple(references.get(prediction.name, ())))
        for index, (prediction, target) in enumerate(zip(predictions, targets, strict=True))
    ]

    def make(device: torch.device) -> Scorer:
        return make_scorer(config, device, aligned=options.aligned, flow=options.flow, metrics=metrics)

    done = evaluate_items(
        items, make, device, options.devices, resize=options.resize, choose=options.face, quiet=options.quiet
    )
    if not done.trainer.is_global_zero:
        return
    rows, scorer = done.rows, done.scorer
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
                {
                    "prediction": str(item.prediction.path),
                    "ground_truth": str(item.target.path) if item.target else None,
                    **asdict(row),
                }
                for item, row in zip(items, rows, strict=True)
            ],
            "protocol": terms,
            "references": named,
            "processes": done.trainer.world_size,
            "provenance": provenance(config, config.seed, scorer.weights, str(device)),
        }
        write_json(options.json, content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ipfvr.evaluate", description="Score restored face videos.")
    parser.add_argument("--pred", required=True, help="video, folder of frames, or folder of several clips")
    parser.add_argument("--gt", help="the ground truth, likewise; without it IDS_ref, E_warp_own and NIQE are left")
    parser.add_argument(
        "--reference", nargs="+", default=[], help="picture(s) of the person, or a folder with one a clip"
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
        "--flow", default="auto", choices=FLOWS, help="behind E_warp; auto: RAFT where its file is there, else DIS"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=CHEAP,
        help="which: psnr ssim ids sigma_ids e_warp niqe (the default), lpips clip_iqa musiq liqe (by pyiqa), or all",
    )
    parser.add_argument("--devices", type=int, default=1, help="processes that share the clips (GPUs where there are)")
    parser.add_argument("--config", help="an experiment file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options, such as faces.detector=yunet")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
