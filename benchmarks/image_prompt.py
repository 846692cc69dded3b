"""What an image prompt costs: a call of mini's denoiser with image tokens against one without.

    python benchmarks/image_prompt.py
    python benchmarks/image_prompt.py --references 4 --frames 8 image_prompt.tokens=16

The two are called in turn, the ratio of each pair is taken and the median of the ratios printed. On a processor the
seconds are those that this process had it for, which other processes lengthen less than a clock's. Exit status 1 above
1.10.
"""

from __future__ import annotations

import argparse

import torch
from pairs import print_ratio, time_pairs

from ipfvr.core.config import load_config
from ipfvr.core.devices import choose_device, choose_dtype
from ipfvr.models.backbone import make_denoiser, make_image_prompt

LIMIT = 1.10


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="pairs of calls")
    parser.add_argument("--frames", type=int, default=0, help="of the clip; default: the configuration's")
    parser.add_argument("--references", type=int, default=1, help="pictures whose tokens are concatenated")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    config = load_config(None, args.overrides)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    denoiser = make_denoiser(config, dtype).to(device)
    prompt = make_image_prompt(config, denoiser)  # without an adapter V_i is zero, which costs the same
    if prompt is None:
        raise SystemExit("image_prompt.source is none: there is nothing to measure")
    frames = args.frames or config.video.clip_frames
    latent = config.video.size // (config.vae.patch_size * 2 ** (len(config.vae.block_out_channels) - 1))
    number = torch.ones(1, dtype=torch.long, device=device)
    x, hint = torch.randn(2, 1, config.denoiser.in_channels, frames, latent, latent, device=device, dtype=dtype)
    text = torch.randn(1, config.text.max_length, config.denoiser.text_width, device=device, dtype=dtype)
    count = args.references * prompt.count
    tokens = torch.randn(1, count, config.image_prompt.width, device=device, dtype=dtype)

    mask = torch.zeros(1, frames, device=device)

    def call(image_tokens: torch.Tensor | None) -> torch.Tensor:
        return denoiser(x, 899 * number, text, hint, 0 * number, 2 * number, mask, image_tokens)

    medians, quartiles = time_pairs(lambda: call(tokens), lambda: call(None), args.repeats, device)
    print(
        f"{config.preset} on {device}, {frames} frames of {latent} x {latent} latents, {count} image tokens, "
        f"{args.repeats} pairs, {torch.get_num_threads()} threads"
    )
    return print_ratio(medians, quartiles, LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
