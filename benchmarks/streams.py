"""What both negative streams cost (Eq. 11-12): a guided step of mini's denoiser against three independent calls.

    python benchmarks/streams.py
    python benchmarks/streams.py --frames 8 sampler.batch_streams=always

The guided step runs the ControlNet once a text (the positive and the negative visual branch have the same) and what is
before the first text or image prompt once in all. The two are run in turn, the ratio of each pair is taken and the
median of the ratios printed. On a processor the seconds are those that this process had it for, which other processes
lengthen less than a clock's. Exit status 1 above 0.9.

Then the arithmetic: operations counted on the meta device, at this size and at full's, 24 x 720 x 768. With U and C the
operations of U-Net and ControlNet and u and c those of their stems, three calls are 3 U + 3 C, a guided step is
3 U + 2 C - 2 u - c. At full's size U = 74.8, C = 28.9, u = c = 3.6 (10^12 operations): 0.872, and 0.907 without stems.
"""

from __future__ import annotations

import argparse
from typing import Any
from unittest import mock

import torch
from pairs import time_pairs
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ipfvr.core.config import load_config
from ipfvr.core.devices import choose_device, choose_dtype
from ipfvr.core.options import Config
from ipfvr.diffusion.conditions import Branch
from ipfvr.diffusion.guidance import NEGATIVE_TEXT, NEGATIVE_VISUAL, POSITIVE
from ipfvr.diffusion.streams import Hint, Streams
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.models.unet import build_denoiser

LIMIT = 0.9
FULL_LATENT = (90, 96)  # 720 x 768


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="pairs")
    parser.add_argument("--frames", type=int, default=0, help="of the clip; default: the configuration's")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config = load_config(None, args.overrides)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    denoiser = make_denoiser(config, dtype).to(device)
    prompt = make_image_prompt(config, denoiser)  # without an adapter V_i is zero, which costs the same
    if prompt is None:
        raise SystemExit("image_prompt.source is none: there is no visual stream to measure")
    frames = args.frames or config.video.clip_frames
    side = config.video.size // (config.vae.patch_size * 2 ** (len(config.vae.block_out_channels) - 1))

    def random(*shape: int) -> Tensor:
        return torch.randn(1, *shape, device=device, dtype=dtype)

    x, latent = (random(config.denoiser.in_channels, frames, side, side) for _ in range(2))
    positive, negative = (random(config.text.max_length, config.denoiser.text_width) for _ in range(2))
    reference, degraded = (random(prompt.count, config.image_prompt.width) for _ in range(2))
    conditions = {
        POSITIVE: Branch(positive, reference),
        NEGATIVE_VISUAL: Branch(positive, degraded),
        NEGATIVE_TEXT: Branch(negative, reference),
    }
    hint = Hint(latent, 0, config.video.scale, torch.zeros(1, frames, dtype=torch.long, device=device))
    streams, number = Streams(config.sampler.batch_streams), torch.ones(1, dtype=torch.long, device=device)

    def guided() -> None:
        streams.predict(denoiser, x, 899, conditions, hint)

    def independent() -> None:
        for branch in conditions.values():
            inputs = (899 * number, branch.text, latent, 0 * number, config.video.scale * number, hint.mask_cond)
            denoiser(x, *inputs, branch.image_tokens)

    (shared, apart), (low, ratio, high) = time_pairs(guided, independent, args.repeats, device)
    print(
        f"{config.preset} on {device}, {frames} frames of {side} x {side} latents, streams "
        f"{'in one call' if streams.together(device) else 'one by one'}, {args.repeats} pairs, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"guided step {shared:.3f} s, three independent calls {apart:.3f} s (medians)")
    print(f"ratio: median {ratio:.3f}, quartiles {low:.3f} to {high:.3f} (limit {LIMIT})")
    arithmetic(config, frames, (side, side))
    full = load_config(None, ["preset=full"])
    arithmetic(full, full.video.clip_frames, FULL_LATENT)
    return int(ratio > LIMIT)


def arithmetic(config: Config, frames: int, size: tuple[int, int]) -> None:
    """Print the operations of a guided step and of three independent calls, counted without computing."""
    with torch.device("meta"):
        denoiser = build_denoiser(config.denoiser)
        denoiser.add_image_prompt(config.image_prompt.width)
        x, number = torch.empty(1, config.denoiser.in_channels, frames, *size), torch.ones(1, dtype=torch.long)
        text = torch.empty(1, config.text.max_length, config.denoiser.text_width)
        tokens = torch.empty(1, config.image_prompt.tokens, config.image_prompt.width)
        hint = (x, number, number, torch.zeros(1, frames))

    def operations(work, *inputs) -> tuple[float, Any]:
        # Nothing has a value on the meta device; the check of the mask, which asks for one, is answered with yes.
        yes = mock.patch.object(Tensor, "__bool__", return_value=True)
        with FlopCounterMode(display=False) as counter, yes:
            result = work(*inputs)
        return counter.get_total_flops() / 1e12, result

    control, features = operations(denoiser.control, x, number, text, *hint)
    u_net, _ = operations(denoiser.unet, x, number, text, features, tokens)
    u_stem, _ = operations(denoiser.unet.begin, x, number)
    control_stem, _ = operations(denoiser.controlnet.begin, x, number, *hint)
    apart = 3 * u_net + 3 * control
    without_stems = 3 * u_net + 2 * control
    guided = without_stems - 2 * u_stem - control_stem
    print(
        f"{config.preset}, {frames} x {size[0]} x {size[1]} latents, 10^12 operations: U-Net {u_net:.3f} (stem "
        f"{u_stem:.3f}), ControlNet {control:.3f} (stem {control_stem:.3f})"
    )
    print(
        f"    guided step {guided:.3f} / three calls {apart:.3f} = {guided / apart:.3f}; "
        f"sharing the ControlNet but no stems {without_stems / apart:.3f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
