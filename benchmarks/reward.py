"""The reward's gradient in chunks against the naive one: 24 frames, error, memory, seconds.

    python benchmarks/reward.py
    python benchmarks/reward.py --codec kl --double     # random weights amplify rounding: compared in double precision
    python benchmarks/reward.py --recogniser mini/dlib --double     # the default of the reward, likewise: see below

Latents to Eq. 8 through decoder, warp and recogniser. ``--codec mini`` is the shipped decoder, ``kl`` that of Stable
Diffusion at a quarter of its width with random weights. Every frame has a gradient (f = 0), so no chunk is left out.
Each way is a process of its own. Memory is the peak of the resident set over what it was when the weights and the
kernels were loaded and the heap given back; seconds are the processor's, so that other programs do not count. mini/dlib
has max pooling and ReLUs, which rounding in single precision switches here and there: 1.4e-3 between two orders of
summing, 1.1e-14 in double precision.
Exit status 1 above 1e-5 relative error, 1/8 of the naive peak or 1.6 times its seconds.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ERROR, MEMORY, SECONDS = 1e-5, 1 / 8, 1.6
KL = [
    "vae.patch_size=1",
    "vae.latent_channels=4",
    "vae.block_out_channels=[32,64,128,128]",
    "vae.layers_per_block=2",
    "vae.norm_groups=32",
    "vae.mid_attention=true",
    "vae.output_norm=true",
    "weights.vae=",
]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", choices=["mini", "kl"], default="mini")
    parser.add_argument("--size", type=int, default=128, help="side of a frame, pixels")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--chunk", type=int, default=2)
    parser.add_argument("--double", action="store_true", help="double precision")
    parser.add_argument("--repeats", type=int, default=3, help="seconds are the least of so many")
    parser.add_argument("--recogniser", default="mini/recogniser")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--run", choices=["naive", "chunked"], help=argparse.SUPPRESS)
    parser.add_argument("--gradient", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.run:
        measure(args)
        return 0
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in ("naive", "chunked"):
            mine = [*(argv if argv is not None else sys.argv[1:]), "--run", way, "--gradient", f"{folder}/{way}.pt"]
            run = subprocess.run([sys.executable, __file__, *mine], check=True, capture_output=True, text=True)
            found[way] = json.loads(run.stdout.splitlines()[-1])
            print(f"{way}: {found[way]['seconds']:.2f} s, {found[way]['peak_mb']:.0f} MB", flush=True)
        import torch

        naive, chunked = (torch.load(f"{folder}/{way}.pt") for way in ("naive", "chunked"))
    error = float((chunked - naive).norm() / naive.norm())
    memory = found["chunked"]["peak_mb"] / found["naive"]["peak_mb"]
    seconds = found["chunked"]["seconds"] / found["naive"]["seconds"]
    print(f"relative error {error:.1e} (limit {ERROR:.0e}), memory x {memory:.3f} (limit {MEMORY:.3f}), ", end="")
    print(f"seconds x {seconds:.2f} (limit {SECONDS})")
    if args.json:
        from ipfvr.core.files import write_json

        numbers = {**found, "error": error, "memory": memory, "seconds": seconds}
        write_json(args.json, {**numbers, "frames": args.frames, "size": args.size, "codec": args.codec})
    return int(error > ERROR or memory > MEMORY or seconds > SECONDS)


def measure(args: argparse.Namespace) -> None:
    """One way, in this process: writes the gradient, prints seconds and MB as JSON."""
    import torch

    from ipfvr.core.config import load_config
    from ipfvr.core.options import RewardConfig
    from ipfvr.faces.align import face_template
    from ipfvr.faces.recognise import load_recogniser
    from ipfvr.identity.reward import FaceRewards, clip_feedback
    from ipfvr.models.backbone import make_codec

    torch.manual_seed(0)
    config = load_config(None, [f"video.size={args.size}", *(KL if args.codec == "kl" else [])])
    codec = make_codec(config)
    rewards = FaceRewards(codec, load_recogniser(args.recogniser), torch.randn(128))
    kind = torch.float64 if args.double else torch.float32
    rewards, side = rewards.to(kind), args.size // codec.factor
    shape = (args.frames, config.vae.latent_channels, side, side)
    latents = (0.5 * torch.randn(shape)).to(kind).requires_grad_(True)
    landmarks = torch.from_numpy(face_template(args.size)).float().repeat(args.frames, 1, 1)
    chunk = args.frames if args.run == "naive" else args.chunk

    def gradient(z: torch.Tensor, frames: int) -> torch.Tensor:
        settings = RewardConfig(bound=99.0)
        if args.run == "chunked":
            found = clip_feedback(z, rewards.of_clip(landmarks), settings, chunk, 0, rewards.alone).loss
        else:
            found = naive_loss(rewards, z, landmarks[:frames], settings)
        return torch.autograd.grad(found, z)[0]

    gradient(latents[:1].detach().requires_grad_(True), 1)
    reset_peak()
    before, seconds = resident("VmRSS"), []
    for _ in range(args.repeats):
        began = time.process_time()
        result = gradient(latents, args.frames)
        seconds.append(time.process_time() - began)
    torch.save(result, args.gradient)
    print(json.dumps({"seconds": min(seconds), "peak_mb": resident("VmHWM") - before}))


def naive_loss(rewards, latents, landmarks, settings):
    """Eq. 5 to 8 with one graph over all frames."""
    from ipfvr.identity.reward import feedback_loss, normalise_reward, suffix_weighted_reward

    normalised = normalise_reward(rewards(latents, landmarks), settings.statistics, settings.epsilon)
    return feedback_loss(suffix_weighted_reward(normalised, settings.gamma), 0, settings.bound)


def resident(field: str) -> float:
    """MB of the resident set: now (VmRSS) or at its peak (VmHWM); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def reset_peak() -> None:
    """Give the heap's free pages back and let the peak count from now on; glibc."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    raise SystemExit(main())
