"""Fit how much of a change is kept (:mod:`ipfvr.faces.gain`) on people that mini was trained on.

    python experiments/mini/gain.py --root data/mini

Pictures are degraded in ten ways, not at all among them, and restored with every change kept whole. Of each, the
error to the truth at a gain g is a parabola in g; the numbers of the gain minimise the sum of these, each as a share
of what was wrong before. Prints the numbers for the preset, and the error on a third of the people that was kept out
of the fit.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ipfvr.config import load_config
from ipfvr.data.faces import resize_crops
from ipfvr.data.layout import PICTURES, list_files, list_identities
from ipfvr.degradation import Parameters, Round, degrade, sample_parameters, soften
from ipfvr.errors import run_verb
from ipfvr.faces.gain import change_energies, change_features
from ipfvr.faces.paste import blend_mask
from ipfvr.pixels import resize_frames
from ipfvr.restoration import Restorer

HERE = Path(__file__).parent
KINDS = ("clean", "mild", "blur", "small", "noise", "h264", "h264 small", "light", "heavy", "severe")
_FLOOR = 0.1  # never less: a reference must not be without effect
_SMALL_ERROR = 20.0  # grey levels squared that are added to what was wrong, so that clean pictures do not rule


class Sample(NamedTuple):
    """What the fit needs to know of one picture: its logarithms, and its parabola g^2 cc - 2 g ct + tt."""

    person: str
    kind: str
    energy: float
    fineness: float
    cc: float
    ct: float
    tt: float


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="data as experiments/mini/prepare.py lays them out")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    restorer = Restorer(load_config(None, [*args.overrides, "gain.floor=1"]))
    people = [p for p in list_identities(args.root, HERE / "heldout.yaml") if list_files([p], "reference", PICTURES)]
    chosen = [people[i] for i in np.unique(np.linspace(0, len(people) - 1, args.people).astype(int))]
    samples = []
    for number, person in enumerate(tqdm(chosen, desc="people")):
        samples += measure(person, number, restorer)
    kept_out = np.isin([s.person for s in samples], [p.name for p in chosen[::3]])
    fitted = fit([s for s, out in zip(samples, kept_out, strict=True) if not out])
    print("| kind | nothing kept | all kept | fitted | mean gain |\n|---|---|---|---|---|")
    for kind in KINDS:
        row = [s for s, out in zip(samples, kept_out, strict=True) if out and s.kind == kind]
        gains = gain(row, fitted)
        errors = [float(error(row, g).mean()) for g in (torch.zeros(len(row)), torch.ones(len(row)), gains)]
        print(f"| {kind} | {errors[0]:.1f} | {errors[1]:.1f} | {errors[2]:.1f} | {float(gains.mean()):.2f} |")
    bias, energy, fineness = (round(float(n), 2) for n in fit(samples))
    print(f"gain: {{floor: {_FLOOR}, bias: {bias}, energy: {energy}, fineness: {fineness}}}")


def measure(person: Path, seed: int, restorer: Restorer) -> list[Sample]:
    """A person's first picture under every kind of fault."""
    from ipfvr.video.reader import read_image

    size, scale = restorer.config.video.size, restorer.config.video.scale
    file = list_files([person], "reference", PICTURES)[0]
    sharp = resize_crops(read_image(file)[None], size)
    mask = blend_mask(size)[..., None] / blend_mask(size).sum() / 3
    found = []
    for kind in KINDS:
        low = resize_frames(damage(sharp, kind, scale, seed), size)
        restored = restorer.restore_clip(low, [0])
        change, truth = (a[0].astype(float) - low[0] for a in (restored, sharp))
        parabola = ((mask * a * b).sum() for a, b in ((change, change), (change, truth), (truth, truth)))
        found.append(Sample(person.name, kind, *change_features(*change_energies(restored, low)), *parabola))
    return found


def damage(sharp: np.ndarray, kind: str, scale: int, seed: int) -> np.ndarray:
    """A clip (F, size, size, 3) with one kind of fault, (F, h, w, 3) uint8."""
    if kind == "clean":
        return sharp
    size = sharp.shape[1]
    if kind in ("light", "heavy", "severe"):
        return degrade(sharp, sample_parameters(kind, scale, size, seed))
    rng, unit = np.random.default_rng([seed, KINDS.index(kind)]), size / 128
    sigma = {"mild": rng.uniform(0, 0.5), "blur": rng.uniform(0.5, 2)}.get(kind, 0.0) * unit
    delta = {"mild": rng.uniform(0, 2), "noise": rng.uniform(2, 15)}.get(kind, 0.0)
    crf = {"mild": rng.integers(18, 28), "h264": rng.integers(24, 40)}.get(kind, rng.integers(18, 35))
    this = Round(float(sigma), float(delta), int(crf), scale if kind.endswith("small") else 1, "area")
    parameters = Parameters(kind, seed, size, (this,))
    return (
        np.stack([*soften(sharp, parameters, 0)]) if kind in ("blur", "small", "noise") else degrade(sharp, parameters)
    )


def gain(samples: list[Sample], numbers: Tensor) -> Tensor:
    """The gain of each sample, (N,), by (bias, energy, fineness)."""
    features = torch.tensor([[1.0, s.energy, s.fineness] for s in samples], dtype=torch.double)
    return _FLOOR + (1 - _FLOOR) * torch.sigmoid(features @ numbers)


def error(samples: list[Sample], gains: Tensor) -> Tensor:
    """Mean square error to the truth of each sample at its gain."""
    cc, ct, tt = torch.tensor([[s.cc, s.ct, s.tt] for s in samples], dtype=torch.double).T
    return tt - 2 * gains * ct + gains**2 * cc


def fit(samples: list[Sample]) -> Tensor:
    """(bias, energy, fineness) of the least error, as a share of what was wrong before."""
    features = torch.tensor([[s.energy, s.fineness] for s in samples], dtype=torch.double)
    mean, spread = features.mean(0), features.std(0)
    wrong = torch.tensor([s.tt for s in samples], dtype=torch.double) + _SMALL_ERROR
    best: tuple[float, Tensor] | None = None
    for start in range(4):
        torch.manual_seed(start)
        scaled = (0.3 * torch.randn(3, dtype=torch.double)).requires_grad_(True)
        optimizer = torch.optim.LBFGS([scaled], max_iter=200, line_search_fn="strong_wolfe")

        def unscaled(scaled: Tensor = scaled) -> Tensor:
            slopes = scaled[1:] / spread
            return torch.cat([(scaled[:1] - (slopes * mean).sum()), slopes])

        def closure(scaled: Tensor = scaled, optimizer: torch.optim.LBFGS = optimizer, unscaled=unscaled) -> Tensor:
            optimizer.zero_grad()
            loss = (error(samples, gain(samples, unscaled())) / wrong).mean() + 1e-4 * scaled[1:].square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        loss = float(closure())
        if best is None or loss < best[0]:
            best = (loss, unscaled().detach())
    return best[1]


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    raise SystemExit(run_verb(main))
