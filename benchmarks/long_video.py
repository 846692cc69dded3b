"""Table 4 and Figure 9: what ties the clips of a video together, on long clips of people held out.

    python benchmarks/long_video.py --root data/mini --output runs/long_video
    python benchmarks/long_video.py --root data/mini --clips id13_c01 --seeds 0 sampler.steps=8

ROOT is the layout that ``experiments/mini/prepare.py`` makes: aligned crops in ``<identity>/train/*.mp4``. The first
``--frames`` frames of each clip are degraded by Eq. 13 and restored by each arm with each seed, over windows of
``video.clip_frames`` that share ``video.overlap``. With ``weights.adapter`` the person's pictures are the image prompt.
IDS is to the truth, E_warp by the flow of the truth; drift is the first third's IDS minus the last third's; a jump is
the change of IDS from one frame to the next, at the borders of the windows and elsewhere (a cross-fade spreads a border
over the frames before it, so its jumps there are small by construction). Where one step is taken there is no
intermediate latent to blend, hence ``sampler.steps=4``. Writes ``scores.json`` (finished cells are not done again),
``table.md`` and ``frames.png``, the IDS of a representative clip: the one of the median mean IDS.
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
from ipfvr.metrics.identity import identity_drift, identity_jumps
from ipfvr.options import Config
from ipfvr.report.plots import line_plot
from ipfvr.restoration import Restorer, plan_windows

ARMS = {
    "w/o NS & EB": ["long_video.blending=none", "long_video.noise_sharing=false"],
    "NS": ["long_video.blending=none", "long_video.noise_sharing=true"],
    "NS + EB": ["long_video.blending=exponential", "long_video.noise_sharing=true"],
    "NS + EB aligned": ["long_video.blending=aligned", "long_video.noise_sharing=true"],
    "NS + cross-fade": ["long_video.blending=cross_fade", "long_video.noise_sharing=true"],
}
BASE = "NS"
STEPS = "sampler.steps=4"


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser(__doc__.splitlines()[0], "runs/long_video", 96, ["0", "1", "2"])
    args = parse_lists(parser, argv, "identities", "clips", "seeds")
    pairs = [STEPS, *args.overrides, f"degradation.level={args.level}"]
    config, seeds = load_config(args.config, pairs), [int(seed) for seed in args.seeds]
    clips = find_clips(args.root, args.frames, args.identities, args.clips)
    borders = [window.keep_start for window in plan_windows([(0, args.frames)], config)[1:]]
    if not borders:
        raise UserError(
            f"--frames {args.frames} is one clip of video.clip_frames {config.video.clip_frames}: no border"
        )
    scorer = clip_scorer(config, args.flow)
    settings = {"configuration": config_to_dict(config), "frames": args.frames, "flow": scorer.flow.name}
    cells = Cells(args.output / "scores.json", settings)
    todo = [(clip, seed, arm) for clip in clips for seed in seeds for arm in ARMS]
    finished: list[str] = []
    for clip, seed, arm in tqdm(todo, desc="cells", leave=False):
        if (clip.name, seed, arm) not in cells:
            armed = load_config(args.config, [*pairs, f"seed={seed}", *ARMS[arm]])
            cells[clip.name, seed, arm] = cell(clip, armed, args.frames, borders, scorer)
        if (seed, arm) == (seeds[-1], list(ARMS)[-1]):
            finished.append(clip.name)
            report(args.output, cells, finished, seeds, borders, scorer)
    cells.finish(config, scorer)


def cell(clip: Clip, config: Config, frames: int, borders: list[int], scorer: Scorer) -> dict[str, Any]:
    """Restore a clip and score it."""
    sharp = clip.frames(frames, config.video.size)
    restorer = Restorer(config)
    if config.weights.adapter and len(pictures := references(clip, frames, config.video.size)):
        restorer.show_references(list(pictures))
    row = evaluate_clip(restored(restorer, degraded(sharp, config, clip.seed)), sharp, None, scorer, name=clip.name)
    ids = torch.tensor([np.nan if v is None else v for v in row.per_frame["ids_gt"]])
    drift = 100 * float(identity_drift(ids))
    at, elsewhere = (100 * float(jump) for jump in identity_jumps(ids, borders))
    more = {"drift": drift, "abs_drift": abs(drift), "border_jump": at, "other_jump": elsewhere}
    return {**row.scores, **more, "visible": row.visible, "ids": row.per_frame["ids_gt"]}


def report(output: Path, cells: Cells, clips: list[str], seeds: list[int], borders: list[int], scorer: Scorer) -> None:
    """The table and the plot of the clips whose cells are all finished."""
    infos = scorer.infos()
    headings = {key: (infos[key].heading, infos[key].digits) for key in ("sigma_ids_gt", "e_warp_gt", "ids_gt")}
    headings |= {"drift": ("drift (x 1e-2)", 3), "abs_drift": ("drift either way (x 1e-2) ↓", 3)}
    headings |= {"border_jump": ("jump at borders (x 1e-2) ↓", 3), "other_jump": ("jump elsewhere (x 1e-2) ↓", 3)}
    headings |= {"psnr": (infos["psnr"].heading, infos["psnr"].digits)}
    arms = {arm: cells.by_clip(clips, seeds, arm, headings) for arm in ARMS}
    video = cells.settings["configuration"]["video"]
    text = comparison(arms, headings, BASE)
    text += (
        f"\n{cells.covered(clips, seeds)} Windows of "
        f"{video['clip_frames']} frames that share {video['overlap']}; borders at frames "
        f"{', '.join(map(str, borders))}. {cells.judged(scorer)}\n"
    )
    with atomic(output / "table.md") as temporary:
        temporary.write_text(text)
    order = np.argsort([row["ids_gt"] for row in arms[BASE]])
    shown = clips[order[len(order) // 2]]
    lines = {arm: cells[shown, seeds[0], arm]["ids"] for arm in ARMS}
    title = f"{shown}, seed {seeds[0]}; dotted: borders of clips"
    write_picture(output / "frames.png", line_plot(lines, title, "frame", "IDS to truth", borders))
    tqdm.write(text)


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
