"""Milliseconds and memory of a training pass of mini's denoiser on a GPU, in both layouts of its activations.

python benchmarks/gpu/step.py --config experiments/mini/joint.yaml
python benchmarks/gpu/step.py --config experiments/mini/joint.yaml --pictures 4 --clips 1    # a processor
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from ipfvr.core.config import load_config
from ipfvr.core.errors import run_verb
from ipfvr.core.options import Config
from ipfvr.models.unet import VideoDenoiser, build_denoiser

TEXT, TOKENS = 24, 264  # of a caption, of a reference


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--pictures", type=int, default=384)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    config = load_config(args.config, [])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for count, frames in ((args.pictures, 1), (args.clips, 8)):
        for layout in (torch.contiguous_format, torch.channels_last):
            denoiser = build_denoiser(config.denoiser).to(device)
            denoiser.add_image_prompt(config.image_prompt.width)
            seconds = _seconds(denoiser, config, (count, frames), layout, args.repeats)
            peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
            print(f"{count} x {frames} {layout}: {1000 * seconds:.1f} ms, {peak:.1f} GiB at most")


def _seconds(
    denoiser: VideoDenoiser, config: Config, size: tuple[int, int], layout: torch.memory_format, repeats: int
) -> float:
    device, (count, frames) = denoiser.unet.conv_in.weight.device, size
    channels, side = config.denoiser.in_channels, config.video.size // config.vae.patch_size
    x = torch.randn(count, channels, frames, side, side, device=device)
    text = torch.randn(count, TEXT, config.denoiser.text_width, device=device)
    tokens = torch.randn(count, TOKENS, config.image_prompt.width, device=device)
    step = torch.full((count,), config.sampler.start_step, device=device)
    if layout == torch.channels_last:
        for parameter in denoiser.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)
        for trunk in (denoiser.unet, denoiser.controlnet):
            trunk.pictures = _last(trunk.dtype)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            v = denoiser(x, step, text, x, step * 0, step * 0 + 4, x.new_zeros(count, frames), image_tokens=tokens)
            v.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    run()
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - started) / repeats


def _last(dtype: torch.dtype):
    def pictures(clip: Tensor) -> Tensor:
        return clip.to(dtype).transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)

    return pictures


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
