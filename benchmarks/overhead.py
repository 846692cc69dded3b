"""Time what a part of the method costs mini: a run with the part against a run without it.

    python benchmarks/overhead.py image_prompt     # Eq. 4: a denoiser call with image tokens, without; limit 1.10
    python benchmarks/overhead.py streams          # Eq. 11 and 12: a guided step, three independent calls; limit 0.9
    python benchmarks/overhead.py blending         # Eq. 10: a clip with the memory of earlier clips, alone; limit 1.03
    python benchmarks/overhead.py image_prompt --references 4 --frames 8 image_prompt.tokens=16
    python benchmarks/overhead.py blending --repeats 5 long_video.blending=aligned sampler.steps=8

The two runs take turns, so that other work on the machine slows both. The ratio of each pair is taken and the median of
the ratios is printed. Seconds on a processor are those that this process used. Exit status 1 above the limit.

``streams`` also prints the arithmetic: operations counted on the meta device, at this size and at that of the full
preset, 24 x 720 x 768. With U and C the operations of U-Net and ControlNet and u and c those of their stems, three
calls are 3 U + 3 C, and a guided step, which runs the ControlNet once for each text and the stems once, is
3 U + 2 C - 2 u - c. At the full size U = 74.8, C = 28.9, u = c = 3.6 (10^12 operations): 0.872, and 0.907 without
shared stems.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ipfvr.core.config import load_config
from ipfvr.core.devices import choose_device, choose_dtype
from ipfvr.core.options import Config
from ipfvr.data.sample import sample_clip
from ipfvr.degradation.pipeline import degrade, sample_parameters
from ipfvr.diffusion.conditions import Branch
from ipfvr.diffusion.guidance import NEGATIVE_TEXT, NEGATIVE_VISUAL, POSITIVE
from ipfvr.diffusion.long_video import ClipMemory
from ipfvr.diffusion.streams import Hint, Streams
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.models.unet import build_denoiser
from ipfvr.restoration.restorer import Restorer

FULL_LATENT = (90, 96)  # 720 x 768


class Pair(NamedTuple):
    """Two runs to compare.

    Attributes:
        subject: what is run, in words.
        first, second: run once.
        device: where.
        limit: of the ratio first / second.
    """

    subject: str
    first: Callable[[], object]
    second: Callable[[], object]
    device: torch.device
    limit: float


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--repeats", type=int, default=9, help="pairs of runs")
    parser.add_argument("--frames", type=int, default=0, help="of the clip; default: the configuration's")
    parser.add_argument("--references", type=int, default=1, help="image_prompt: pictures whose tokens are joined")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    pair = PARTS[args.part](args)
    (with_it, without), (low, ratio, high) = time_pairs(pair.first, pair.second, args.repeats, pair.device)
    print(f"{pair.subject} on {pair.device}, {args.repeats} pairs, {torch.get_num_threads()} threads")
    print(f"first {with_it:.3f} s, second {without:.3f} s (medians)")
    print(f"ratio: median {ratio:.3f}, quartiles {low:.3f} to {high:.3f} (limit {pair.limit})")
    if args.part == "streams":
        config = load_config(None, args.overrides)
        side = _latent_side(config)
        arithmetic(config, args.frames or config.video.clip_frames, (side, side))
        full = load_config(None, ["preset=full"])
        arithmetic(full, full.video.clip_frames, FULL_LATENT)
    return int(ratio > pair.limit)


def time_pairs(
    first: Callable[[], object], second: Callable[[], object], repeats: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Time two runs in turns, after one run of each that does not count.

    Args:
        first, second: run once.
        repeats: pairs.
        device: a GPU is waited for and timed by the wall clock; a processor by the time that this process used.

    Returns:
        The medians of their seconds (2,), and the quartiles of first / second (3,).
    """
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time

    def seconds(work: Callable[[], object]) -> float:
        began = clock()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        return clock() - began

    seconds(first), seconds(second)
    pairs = np.array([[seconds(first), seconds(second)] for _ in range(repeats)])
    return np.median(pairs, 0), np.quantile(pairs[:, 0] / pairs[:, 1], [0.25, 0.5, 0.75])


def image_prompt(args: argparse.Namespace) -> Pair:
    """A denoiser call with image tokens against one without."""
    config, device, denoiser, prompt, random = _denoiser(args)
    frames, side = args.frames or config.video.clip_frames, _latent_side(config)
    x, hint = (random(config.denoiser.in_channels, frames, side, side) for _ in range(2))
    text = random(config.text.max_length, config.denoiser.text_width)
    count = args.references * prompt.count
    tokens = random(count, config.image_prompt.width)
    number, mask = torch.ones(1, dtype=torch.long, device=device), torch.zeros(1, frames, device=device)

    def call(image_tokens: Tensor | None) -> Tensor:
        return denoiser(x, 899 * number, text, hint, 0 * number, 2 * number, mask, image_tokens)

    subject = f"{config.preset}, {frames} frames of {side} x {side} latents, {count} image tokens"
    return Pair(subject, lambda: call(tokens), lambda: call(None), device, 1.10)


def streams(args: argparse.Namespace) -> Pair:
    """A guided step with both negative streams against three independent calls."""
    config, device, denoiser, prompt, random = _denoiser(args)
    frames, side = args.frames or config.video.clip_frames, _latent_side(config)
    x, latent = (random(config.denoiser.in_channels, frames, side, side) for _ in range(2))
    positive, negative = (random(config.text.max_length, config.denoiser.text_width) for _ in range(2))
    reference, degraded = (random(prompt.count, config.image_prompt.width) for _ in range(2))
    conditions = {
        POSITIVE: Branch(positive, reference),
        NEGATIVE_VISUAL: Branch(positive, degraded),
        NEGATIVE_TEXT: Branch(negative, reference),
    }
    hint = Hint(latent, 0, config.video.scale, torch.zeros(1, frames, dtype=torch.long, device=device))
    shared, number = Streams(config.sampler.batch_streams), torch.ones(1, dtype=torch.long, device=device)

    def guided() -> None:
        shared.predict(denoiser, x, 899, conditions, hint)

    def independent() -> None:
        for branch in conditions.values():
            inputs = (899 * number, branch.text, latent, 0 * number, config.video.scale * number, hint.mask_cond)
            denoiser(x, *inputs, branch.image_tokens)

    how = "in one call" if shared.together(device) else "one by one"
    subject = f"{config.preset}, {frames} frames of {side} x {side} latents, streams {how}"
    return Pair(subject, guided, independent, device, 0.9)


def blending(args: argparse.Namespace) -> Pair:
    """A clip with the memory of the clips before it against the same clip alone, decoding included."""
    restorer = Restorer(load_config(None, ["sampler.steps=4", *args.overrides]))
    if not restorer.long_video.reach or restorer.steps < 2:
        raise SystemExit("nothing is blended: see long_video.blending, video.overlap and sampler.steps")
    video = restorer.config.video
    parameters = sample_parameters("heavy", video.scale, video.size, 0)
    low = degrade(sample_clip(args.frames or video.clip_frames, video.size), parameters)
    memory, nobody = ClipMemory(), restorer.conditions()

    def clip(memory: ClipMemory | None) -> np.ndarray:
        return restorer.restore(low, nobody, memory=memory, context=video.overlap)

    for _ in range(restorer.long_video.reach):
        clip(memory)
    subject = (
        f"{restorer.config.preset}, clips of {len(low)}, {restorer.steps} steps, {restorer.long_video.blending}, "
        f"{memory.size / 2**20:.1f} MB remembered"
    )
    return Pair(subject, lambda: clip(memory), lambda: clip(None), restorer.networks.device, 1.03)


PARTS = {part.__name__: part for part in (image_prompt, streams, blending)}


def _denoiser(args: argparse.Namespace) -> tuple:
    """The configuration, its device, denoiser and image prompt, and a maker of random tensors of a batch of one."""
    config = load_config(None, args.overrides)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    denoiser = make_denoiser(config, dtype).to(device)
    prompt = make_image_prompt(config, denoiser)  # without an adapter V_i is zero, which costs the same
    if prompt is None:
        raise SystemExit("image_prompt.source is none: there is nothing to measure")

    def random(*shape: int) -> Tensor:
        return torch.randn(1, *shape, device=device, dtype=dtype)

    return config, device, denoiser, prompt, random


def _latent_side(config: Config) -> int:
    return config.video.size // (config.vae.patch_size * 2 ** (len(config.vae.block_out_channels) - 1))


def arithmetic(config: Config, frames: int, size: tuple[int, int]) -> None:
    """Print the operations of a guided step and of three independent calls, counted without computing."""
    with torch.device("meta"):
        denoiser = build_denoiser(config.denoiser)
        denoiser.add_image_prompt(config.image_prompt.width)
        x, number = torch.empty(1, config.denoiser.in_channels, frames, *size), torch.ones(1, dtype=torch.long)
        text = torch.empty(1, config.text.max_length, config.denoiser.text_width)
        tokens = torch.empty(1, config.image_prompt.tokens, config.image_prompt.width)
        hint = (x, number, number, torch.zeros(1, frames))

    def operations(work: Callable, *inputs: Any) -> tuple[float, Any]:
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
