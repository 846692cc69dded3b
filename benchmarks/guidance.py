"""Table 5: what the negative streams do (Eq. 11-12), alone and together, and over their weights.

    python benchmarks/guidance.py --root data/mini --output runs/guidance weights.adapter=ADAPTER.safetensors
    python benchmarks/guidance.py --root data/mini --clips id13_c01 --weights 0 0.5 weights.adapter=ADAPTER.safetensors

ROOT is the layout that ``experiments/mini/prepare.py`` makes; only people held out of every training are used unless
``--identities`` says otherwise. The first ``--frames`` frames of each clip are degraded by Eq. 13 and restored with
every pair of weights, w_nt of the negative text and w_nv of the degraded reference; the rows of Table 5 are the pairs
of 0 and ``--weight``. The image prompt is the person's pictures, none of them from the frames that are scored; clips
without such a picture are left out. IDS is to the truth. Writes ``scores.json`` (finished cells are not done again),
``table.md`` and ``grid.png``, the mean IDS over the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import (
    Cells,
    Clip,
    clip_scorer,
    comparison,
    degraded,
    find_clips,
    parse_lists,
    references,
    restored,
    study_parser,
)
from tqdm import tqdm

from ipfvr.config import config_to_dict, load_config
from ipfvr.demo import write_picture
from ipfvr.errors import UserError, run_verb
from ipfvr.files import atomic
from ipfvr.metrics.evaluation import Scorer, evaluate_clip
from ipfvr.options import Config
from ipfvr.report.plots import heat_map
from ipfvr.restoration import Restorer

METRICS = ("ids_gt", "psnr", "ssim", "sigma_ids_gt", "e_warp_gt")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser(__doc__.splitlines()[0], "runs/guidance", 24, ["0"])
    parser.add_argument("--weight", type=float, default=0.5, help="of the rows of Table 5")
    parser.add_argument("--weights", nargs="+", default=["0", "0.25", "0.5", "0.75", "1"], help="of the grid")
    args = parse_lists(parser, argv, "identities", "clips", "seeds", "weights")
    pairs = [*args.overrides, f"degradation.level={args.level}"]
    config, seeds = load_config(args.config, pairs), [int(seed) for seed in args.seeds]
    if not config.weights.adapter:
        raise UserError("weights.adapter is empty: without an adapter there is no image prompt and no negative of it")
    weights = sorted({0.0, args.weight, *map(float, args.weights)})
    clips = [
        c for c in find_clips(args.root, args.frames, args.identities, args.clips) if _shown(c, args.frames, config)
    ]
    if not clips:
        raise UserError("no clip is left: none of these people has a picture from elsewhere")
    scorer = clip_scorer(config, args.flow)
    settings = {"configuration": config_to_dict(config), "frames": args.frames, "flow": scorer.flow.name}
    cells = Cells(args.output / "scores.json", settings)
    grid = [(w_nt, w_nv) for w_nt in weights for w_nv in weights]
    todo = [(clip, seed, streams) for clip in clips for seed in seeds for streams in grid]
    finished: list[str] = []
    for clip, seed, streams in tqdm(todo, desc="cells", leave=False):
        if (clip.name, seed, arm(*streams)) not in cells:
            armed = load_config(args.config, [*pairs, f"seed={seed}", *options(*streams)])
            cells[clip.name, seed, arm(*streams)] = cell(clip, armed, args.frames, scorer)
        if (seed, streams) == (seeds[-1], grid[-1]):
            finished.append(clip.name)
            report(args.output, cells, finished, seeds, (args.weight, weights), scorer)
    cells.finish(config, scorer)


def arm(w_nt: float, w_nv: float) -> str:
    """A cell's name."""
    return f"w_nt {w_nt:g}, w_nv {w_nv:g}"


def options(w_nt: float, w_nv: float) -> list[str]:
    """With weights of 0 no stream is run but the positive one."""
    return ["sampler.guider=multi_stream", f"sampler.negative_text={w_nt}", f"sampler.negative_visual={w_nv}"]


def cell(clip: Clip, config: Config, frames: int, scorer: Scorer) -> dict[str, Any]:
    """Restore a clip and score it."""
    sharp = clip.frames(frames, config.video.size)
    restorer = Restorer(config)
    restorer.show_references(list(references(clip, frames, config.video.size)))
    row = evaluate_clip(restored(restorer, degraded(sharp, config, clip.seed)), sharp, None, scorer, name=clip.name)
    return {**row.scores, "visible": row.visible}


def report(
    output: Path, cells: Cells, clips: list[str], seeds: list[int], weights: tuple[float, list[float]], scorer: Scorer
) -> None:
    """The tables and the heat map of the clips whose cells are all finished."""
    infos, (weight, grid) = scorer.infos(), weights
    headings = {key: (infos[key].heading, infos[key].digits) for key in METRICS}
    rows = {"none": (0, 0), "text": (weight, 0), "visual": (0, weight), "both": (weight, weight)}
    arms = {name: cells.by_clip(clips, seeds, arm(*streams), METRICS) for name, streams in rows.items()}
    means = {key: _means(cells, clips, seeds, grid, key) for key in METRICS[:3]}
    text = comparison(arms, headings, "none")
    text += (
        f"\n{cells.covered(clips, seeds)} Text: w_nt = {weight:g}, visual: w_nv = {weight:g}. {cells.judged(scorer)}\n"
    )
    for key, values in means.items():
        text += f"\n{infos[key].heading}: w_nt down, w_nv across\n\n"
        text += "| | " + " | ".join(f"{w:g}" for w in grid) + " |\n" + "|---" * (len(grid) + 1) + "|\n"
        for w_nt, line in zip(grid, values, strict=True):
            text += f"| {w_nt:g} | " + " | ".join(f"{v:.{infos[key].digits}f}" for v in line) + " |\n"
    with atomic(output / "table.md") as temporary:
        temporary.write_text(text)
    names = [f"{w:g}" for w in grid]
    title = f"IDS to truth, mean of {len(clips)} clip{'s' * (len(clips) > 1)}"
    write_picture(output / "grid.png", heat_map(means["ids_gt"], names, names, title, ("w_nt", "w_nv"), 4))
    tqdm.write(text)


def _means(cells: Cells, clips: list[str], seeds: list[int], grid: list[float], key: str) -> np.ndarray:
    """(w_nt, w_nv): the mean over clips."""
    found = [[cells.by_clip(clips, seeds, arm(w_nt, w_nv), [key]) for w_nv in grid] for w_nt in grid]
    return np.array([[np.mean([row[key] for row in rows]) for rows in line] for line in found], float)


def _shown(clip: Clip, frames: int, config: Config) -> bool:
    if len(references(clip, frames, config.video.size)):
        return True
    print(f"left out, no picture of the person from elsewhere: {clip.name}")
    return False


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
