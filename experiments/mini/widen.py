"""Start weights of mini's denoiser: one of 128 pixels (base_clips.yaml), widened to 256.

    python experiments/mini/widen.py --vae runs/mini/codec/weights/vae.safetensors \\
        --start-vae runs/mini/vae/weights/vae.safetensors \\
        --start runs/mini/base_clips/weights/denoiser.safetensors --output runs/mini/start.safetensors

Both linear codecs project patches on principal components: the first 4 x 4 patches of 128 pixels on 12, the second 8
x 8 patches of 256 pixels on 48, both on a grid of 32 x 32. Halving a picture of 256 pixels maps the latents of the
second to those of the first, z = A z', and A has nearly orthonormal rows where the second's scaling factor is half of
the first's; the nearest matrix that has them is taken. So noise stays noise, and a network that reads A z' and writes
A^T v does to the coarse half of the latents what the first does; the detail starts from nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic
from ipfvr.models.backbone import make_codec
from ipfvr.models.vae import LatentCodec

HERE = Path(__file__).parent
_READERS = ("unet.conv_in.weight", "controlnet.conv_in.weight", "controlnet.hint_conv.weight")
_WRITERS = ("unet.conv_out.weight", "unet.conv_out.bias")
_TOLERANCE = 0.25  # how far A A^T may be from the identity: the codecs keep nearly, not quite, the same plane


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vae", type=Path, required=True, help="the linear codec of 256 pixels")
    parser.add_argument("--start-vae", type=Path, required=True, help="the linear codec of 128 pixels")
    parser.add_argument("--start", type=Path, required=True, help="the denoiser of 128 pixels")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of joint.yaml, for other sizes")
    args = parser.parse_intermixed_args(argv)
    first = make_codec(load_config(HERE / "base.yaml", [f"weights.vae={args.start_vae}"]))
    second = make_codec(load_config(HERE / "joint.yaml", [f"weights.vae={args.vae}", *args.overrides]))
    coarse = coarse_map(first, second)
    error = (coarse @ coarse.T - torch.eye(len(coarse))).abs().max()
    if error > _TOLERANCE:
        raise UserError(f"the codecs do not fit together: rows of A are orthonormal to {error:.3f} only")
    left, _, right = torch.linalg.svd(coarse, full_matrices=False)
    weights = widened(load_file(args.start), left @ right)
    with atomic(args.output) as temporary:
        save_file(weights, temporary)
    print(f"{args.output}: A A^T is the identity to {error:.4f}")


@torch.no_grad()
def coarse_map(first: LatentCodec, second: LatentCodec) -> Tensor:
    """A, (C, C'): scaled latents of the halved picture are A times those of the picture."""
    channels = second.config.latent_channels
    patch = second.config.patch_size
    # The linear codecs are affine and act on each patch alone: probe the second's decoder with unit latents.
    units = torch.cat([torch.zeros(1, channels, 1, 1), torch.eye(channels)[:, :, None, None]])
    pixels = functional.avg_pool2d(second.decode(units).reshape(-1, 3, patch, patch), 2)
    latents = first.encode(pixels).flatten(1)
    return (latents[1:] - latents[0]).T


def widened(weights: dict[str, Tensor], coarse: Tensor) -> dict[str, Tensor]:
    """The first denoiser's weights with the second's latents at both ends, in its type."""
    result = dict(weights)
    for name in _READERS:
        kernel = weights[name].float()
        result[name] = torch.einsum("ochw,cd->odhw", kernel, coarse).contiguous().to(weights[name].dtype)
    for name in _WRITERS:
        result[name] = torch.einsum("c...,cd->d...", weights[name].float(), coarse).contiguous().to(weights[name].dtype)
    return result


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
