"""Compare our schedule, denoiser and sampler with numbers that the original VEnhancer computed.

    python benchmarks/parity.py VECTORS.safetensors

checks every ``schedule.sigmas``, ``forward.<case>`` and ``sample.<case>`` of the file and prints the error of each.
Exit status: 0 all within tolerance, 1 one or more above it, 2 a file that cannot be used.

The error of a tensor is its largest difference over the standard deviation of the original's tensor; of the schedule,
the largest difference. The network is the small one (base width 32); its weights are made from its tensors' names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from parity_weights import SMALL, parity_weights
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.options import SamplerConfig, ScheduleConfig
from ipfvr.diffusion.conditions import Branch
from ipfvr.diffusion.guidance import NEGATIVE_TEXT, POSITIVE
from ipfvr.diffusion.sampler import Sampler
from ipfvr.diffusion.schedule import Schedule
from ipfvr.diffusion.streams import Hint, guided_denoise
from ipfvr.models.checkpoints import load_weights, official_names
from ipfvr.models.unet import VideoDenoiser, build_denoiser

SCHEDULE_TOLERANCE = 1e-6
FORWARD_TOLERANCE = 1e-4
SAMPLE_TOLERANCE = 1e-3

FORWARD_TENSORS = ("x", "t", "y", "hint", "t_hint", "up_scale", "mask_cond", "out")
SAMPLE_TENSORS = ("lq", "noise", "noise_hint", "y", "neg_y", "hint", "start", "out")
SAMPLERS = {
    "heun": SamplerConfig(solver="heun", steps=6, guider="classifier_free"),
    "dpmpp_2m_eta0": SamplerConfig(solver="dpmpp_2m_sde", steps=8, eta=0.0, guider="classifier_free"),
}
UP_SCALE = 4


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: of the tensor in the file.
        error: how far we are from it.
        tolerance: how far we may be.
    """

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; one that is not a number is not."""
        return self.error <= self.tolerance


Cases = dict[str, dict[str, Tensor]]


def main(argv: list[str] | None = None) -> None:
    """Check a file and print the table.

    Raises:
        UserError: a file that is missing, unreadable or not in the format.
        SystemExit: with status 1 where an error is above its tolerance.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path, help="a safetensors file of the original's inputs and outputs")
    path = parser.parse_args(argv).vectors
    sigmas, forwards, samples = read_vectors(path)
    failed = 0
    print(f"{'tensor':<32}{'error':>12}{'tolerance':>12}")
    try:
        for check in checks(sigmas, forwards, samples):
            failed += not check.passed
            verdict = "" if check.passed else "  ABOVE"
            print(f"{check.name:<32}{check.error:>12.2e}{check.tolerance:>12.0e}{verdict}", flush=True)
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"{path}: the shapes of its tensors do not fit together: {error}") from None
    if failed:
        print(f"{failed} above tolerance")
        raise SystemExit(1)
    print("all within tolerance")


def read_vectors(path: Path) -> tuple[Tensor | None, Cases, Cases]:
    """The file's schedule (None where it holds none), forward cases and sample cases.

    Raises:
        UserError: a file that is missing, unreadable or not in the format.
    """
    if not path.is_file():
        raise UserError(f"no file of parity vectors at {path}; give the path of a safetensors file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from None
    forwards: Cases = {}
    samples: Cases = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        case, _, part = rest.rpartition(".")
        if kind in ("forward", "sample") and case:
            (forwards if kind == "forward" else samples).setdefault(case, {})[part] = tensor
        elif name != "schedule.sigmas":
            raise UserError(f"{path}: unknown tensor '{name}'; known are schedule.sigmas, forward.* and sample.*")
    _check_parts(path, "forward", forwards, FORWARD_TENSORS)
    _check_parts(path, "sample", samples, SAMPLE_TENSORS)
    unknown = sorted(set(samples) - set(SAMPLERS))
    if unknown:
        raise UserError(f"{path}: unknown case sample.{unknown[0]}; known are {', '.join(SAMPLERS)}")
    if not tensors:
        raise UserError(f"{path} holds no tensors; expected schedule.sigmas, forward.* and sample.*")
    return tensors.get("schedule.sigmas"), forwards, samples


@torch.no_grad()
def checks(sigmas: Tensor | None, forwards: Cases, samples: Cases) -> Iterator[Check]:
    """Compute everything again, and compare it one tensor after the other."""
    schedule = Schedule(ScheduleConfig())
    if sigmas is not None:
        yield Check("schedule.sigmas", (schedule.sigmas - sigmas).abs().max().item(), SCHEDULE_TOLERANCE)
    if not forwards and not samples:
        return
    denoiser = build_denoiser(SMALL).eval()
    load_weights(denoiser, parity_weights(dict(official_names(denoiser).values())))
    for case, given in sorted(forwards.items()):
        for part, ours in forward(denoiser, given).items():
            if part in given:
                yield Check(f"forward.{case}.{part}", relative_error(ours, given[part]), FORWARD_TOLERANCE)
    for case, given in sorted(samples.items()):
        for part, ours in sample(denoiser, Sampler(SAMPLERS[case], schedule), given).items():
            yield Check(f"sample.{case}.{part}", relative_error(ours, given[part]), SAMPLE_TOLERANCE)


def forward(denoiser: VideoDenoiser, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """One pass through ControlNet and U-Net: its first and last control feature, and v."""
    inputs = (*(given[k] for k in ("x", "t", "y", "hint", "t_hint", "up_scale")), given["mask_cond"])
    control = denoiser.control(*inputs)
    return {
        "control_first": control[0],
        "control_last": control[-1],
        "out": denoiser(*inputs, control=control),
    }


def sample(denoiser: VideoDenoiser, sampler: Sampler, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """From a low-quality latent and given noise to the sampler's result."""
    schedule, config = sampler.schedule, sampler.config
    hint = schedule.add_noise(given["lq"], given["noise_hint"], config.hint_step)
    start = schedule.add_noise(given["lq"], given["noise"], config.start_step)
    key_frames = torch.zeros(hint.shape[0], hint.shape[2], dtype=torch.long)
    denoise = guided_denoise(
        denoiser,
        schedule,
        sampler.guider,
        {POSITIVE: Branch(given["y"]), NEGATIVE_TEXT: Branch(given["neg_y"])},
        Hint(hint, config.hint_step, UP_SCALE, key_frames),
        sampler.streams,
    )
    # Both cases are deterministic: a solver that asks for noise here is wrong, and None makes it fail.
    out = sampler.solver.sample(sampler.plan, start, denoise, noise=lambda i: None)
    return {"hint": hint, "start": start, "out": out}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the standard deviation of ``theirs``."""
    if ours.shape != theirs.shape:
        raise ValueError(f"ours is {tuple(ours.shape)}, the file's {tuple(theirs.shape)}")
    return ((ours - theirs).abs().max() / theirs.std()).item()


def _check_parts(path: Path, kind: str, cases: Cases, parts: tuple[str, ...]) -> None:
    for case, given in cases.items():
        for part in parts:
            if part not in given:
                raise UserError(f"{path}: {kind}.{case} lacks its tensor '{part}'")


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
