"""What exponential blending (Eq. 10) costs: clips of mini at four solver steps with it against clips without.

    python benchmarks/blending.py
    python benchmarks/blending.py --repeats 5 long_video.blending=aligned sampler.steps=8

A clip that has s clips before it, of the video's length, is restored with their memory and by itself in turn, decoding
included; the ratio of each pair is taken and the median of the ratios printed. On a processor the seconds are those
that this process had it for. Exit status 1 above 1.03.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from pairs import print_ratio, time_pairs

from ipfvr.core.config import load_config
from ipfvr.data.sample import sample_clip
from ipfvr.degradation.pipeline import degrade, sample_parameters
from ipfvr.diffusion.long_video import ClipMemory
from ipfvr.restoration.restorer import Restorer

LIMIT = 1.03


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="pairs of clips")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    restorer = Restorer(load_config(None, ["sampler.steps=4", *args.overrides]))
    if not restorer.long_video.reach or restorer.steps < 2:
        raise SystemExit("nothing is blended: see long_video.blending, video.overlap and sampler.steps")
    video = restorer.config.video
    parameters = sample_parameters("heavy", video.scale, video.size, 0)
    low = degrade(sample_clip(video.clip_frames, video.size), parameters)
    memory, nobody, device = ClipMemory(), restorer.conditions(), restorer.networks.device

    def clip(memory: ClipMemory | None) -> np.ndarray:
        return restorer.restore(low, nobody, memory=memory, context=video.overlap)

    for _ in range(restorer.long_video.reach):
        clip(memory)
    medians, quartiles = time_pairs(lambda: clip(memory), lambda: clip(None), args.repeats, device)
    print(
        f"{restorer.config.preset} on {device}, clips of {len(low)}, {restorer.steps} steps, "
        f"{restorer.long_video.blending}, {args.repeats} pairs, {torch.get_num_threads()} threads, "
        f"{memory.size / 2**20:.1f} MB remembered"
    )
    return print_ratio(medians, quartiles, LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
