"""Training of the attribute network with MOON's mixed objective (Rudd, Guenther and Boult, ECCV 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from ipfvr.conditioning.attribute_network import SIDE, AttributeNetwork
from ipfvr.conditioning.attributes import WORDS, read_attributes
from ipfvr.core.errors import UserError
from ipfvr.core.options import Config
from ipfvr.data.layout import PICTURES, list_files, list_identities
from ipfvr.models.backbone import save_module
from ipfvr.training.common import Trained
from ipfvr.video.reader import read_image

STORE = 112  # side of the pictures that are kept in memory, pixels
_LEAST_SHARE = 1e-3  # an attribute that nobody (or everybody) of the training has counts as this rare


def positive_shares(labels: Tensor) -> Tensor:
    """Return the share of faces with each attribute, (40,), never 0 or 1, for labels (N, 40) of 1 and -1."""
    return (labels > 0).double().mean(dim=0).clamp(_LEAST_SHARE, 1 - _LEAST_SHARE).float()


def target_shares(source: Tensor, balance: float) -> Tensor:
    """Return the shares of the target domain, whose log-odds are ``(1 - balance)`` times the source's.

    A ``balance`` of 0 gives the source itself; with 1 every attribute is as often present as absent.
    """
    return torch.sigmoid((1 - balance) * source.logit())


def moon_weights(source: Tensor, target: Tensor) -> Tensor:
    """Compute MOON's domain-adapted weights, Eq. (2) there.

    ``p(i | +1) = 1 if T_i+ > S_i+ else S_i- T_i+ / (S_i+ T_i-)`` and the same with signs exchanged. These are the
    ratios of the classes' shares in the target and the source domain, scaled so that the larger one is 1.

    Args:
        source: (40,) shares S+ of faces with the attribute in the training set, in (0, 1).
        target: (40,) shares T+ in the target domain, in (0, 1).

    Returns:
        (2, 40): the weights of absent, then of present attributes, in (0, 1].
    """
    odds = target / (1 - target) * (1 - source) / source
    return torch.stack([1 / odds, odds]).clamp(max=1)


def moon_loss(outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Compute MOON's mixed objective, Eq. (3) there, ``sum_i p(i | y_i) (f_i(x) - y_i)^2``, as a mean.

    Args:
        outputs: (N, 40).
        labels: (N, 40) of 1 and -1.
        weights: (2, 40) of :func:`moon_weights`.
    """
    chosen = torch.where(labels > 0, weights[1], weights[0])
    return (chosen * (outputs - labels) ** 2).mean()


def labelled_pictures(config: Config, held: bool) -> tuple[Tensor, Tensor, list[Path]]:
    """Read the pictures of ``data.root`` whose attributes are in the tables of ``data.captions``.

    Args:
        config: its ``data`` section is used.
        held: take the held-out people instead of the others.

    Returns:
        (N, 3, 112, 112) uint8 RGB, (N, 40) float32 of 1 and -1, and the files.

    Raises:
        UserError: there is no such picture.
    """
    known = {key: row for path in config.data.captions for key, row in read_attributes(path).items()}
    people = list_identities(config.data.root, config.data.heldout, held)
    rows = [(f, known.get(f"{f.parent.parent.name}/{f.name}")) for f in list_files(people, "reference", PICTURES)]
    labelled = [(file, row) for file, row in rows if row is not None]
    if not labelled:
        raise UserError(
            f"no picture in {config.data.root}/<identity>/reference is in a table of data.captions "
            f"({', '.join(config.data.captions) or 'none given'})"
        )
    pictures = [cv2.resize(read_image(f), (STORE, STORE), interpolation=cv2.INTER_AREA) for f, _ in labelled]
    labels = torch.tensor([[1.0 if row[name] else -1.0 for name in WORDS] for _, row in labelled])
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), labels, [f for f, _ in labelled]


def augment(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Augment faces: turn, zoom, shift, mirror, light, colour, loss of resolution, noise and an occluding block.

    Args:
        pixels: (N, 3, H, W) in [-1, 1].
        random: draws everything that is random.

    Returns:
        (N, 3, 96, 96) in [-1, 1].
    """
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=random) * (high - low) + low

    angle, zoom = uniform(-0.26, 0.26), uniform(0.82, 1.12)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    stretch = uniform(0.92, 1.08)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = [torch.stack([mirror * cosine * stretch, -sine, uniform(-0.1, 0.1)], dim=-1)]
    rows.append(torch.stack([mirror * sine * stretch, cosine, uniform(-0.1, 0.1)], dim=-1))
    grid = functional.affine_grid(torch.stack(rows, dim=1), [count, 3, SIDE, SIDE], align_corners=False)
    x = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * uniform(0.7, 1.3, 1, 1, 1)
    x = x * uniform(0.7, 1.3, 1, 1, 1) + uniform(-0.2, 0.2, 1, 1, 1) + uniform(-0.05, 0.05, 3, 1, 1)
    poor = count // 5
    if poor:  # batches come shuffled: the first fifth is any fifth
        small = int(torch.randint(36, 80, (), generator=random))
        shrunk = functional.interpolate(x[:poor], (small, small), mode="area")
        x[:poor] = functional.interpolate(shrunk, (SIDE, SIDE), mode="bilinear")
    x = x + torch.randn(x.shape, generator=random) * uniform(0, 0.08, 1, 1, 1)
    axis = torch.linspace(-1, 1, SIDE)
    half, centre = uniform(0.05, 0.35, 2), uniform(-1, 1, 2)
    inside = (axis[None, None] - centre[..., None]).abs() < half[..., None]  # (N, 2, side)
    hidden = (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None] & (uniform(0, 1, 1, 1, 1) < 0.4)
    return torch.where(hidden, uniform(-1, 1, 3, 1, 1), x).clamp(-1, 1)


class Batches(IterableDataset):
    """Yields endless batches of augmented faces; batch n depends on the seed and n alone."""

    def __init__(self, pictures: Tensor, labels: Tensor, size: int, seed: int, start: int = 0) -> None:
        self.pictures, self.labels, self.size, self.seed, self.start = pictures, labels, size, seed, start

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        number = self.start
        while True:
            random = torch.Generator().manual_seed(int(np.random.default_rng([self.seed, number]).integers(2**62)))
            chosen = torch.randint(len(self.labels), (self.size,), generator=random)
            pixels = self.pictures[chosen].float() / 127.5 - 1
            yield {"faces": augment(pixels, random), "labels": self.labels[chosen]}
            number += 1


class AttributeData(pl.LightningDataModule):
    """The labelled pictures of ``data.root``; validation uses all pictures of the held-out people."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.start = 0  # batches already seen: set before resuming

    def setup(self, stage: str | None = None) -> None:
        """Read the pictures."""
        self.pictures, self.labels, _ = labelled_pictures(self.config, held=False)
        self.unseen = labelled_pictures(self.config, held=True)[:2] if self.config.data.heldout else None

    def train_dataloader(self) -> DataLoader:
        """Return a loader of endless batches."""
        data = self.config.data
        batches = Batches(self.pictures, self.labels, data.batch_size, self.config.seed, self.start)
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader | list:
        """Return one batch with every held-out picture once, not augmented."""
        if self.unseen is None:
            return []
        pictures, labels = self.unseen
        return DataLoader([{"faces": plain(pictures), "labels": labels}], batch_size=None)


def plain(pictures: Tensor) -> Tensor:
    """Convert pictures (N, 3, H, W) uint8 to the network's input, (N, 3, 96, 96) in [-1, 1]."""
    return functional.interpolate(pictures.float() / 127.5 - 1, (SIDE, SIDE), mode="bilinear", antialias=True)


class AttributeTraining(Trained):
    """Minimises MOON's objective; the training pictures give the shares of the source domain."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.network = AttributeNetwork()
        self.average()

    def on_fit_start(self) -> None:
        """Count the attributes among the training pictures."""
        source = positive_shares(self.trainer.datamodule.labels)
        target = target_shares(source, self.config.loss.balance)
        for network in (self.network, self.ema):
            network.source.copy_(source)
            network.target.copy_(target)
        self.weights = moon_weights(source, target).to(self.device)

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """Compute the loss of one batch of :class:`Batches`."""
        loss = moon_loss(self.network(batch["faces"]).float(), batch["labels"], self.weights)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], number: int) -> None:
        """Log means over the attributes: accuracy, accuracy of the majority answer, balanced accuracy."""
        outputs, labels = self.ema(batch["faces"]).float(), batch["labels"]
        said = self.ema.probabilities(outputs) > 0.5
        scores = {
            "val/accuracy": accuracy(said, labels).mean(),
            "val/majority": accuracy((self.ema.source > 0.5).expand_as(labels), labels).mean(),
            "val/balanced": balanced_accuracy(self.ema.balanced(outputs) > 0.5, labels).nanmean(),
        }
        self.log_dict(scores, prog_bar=True, batch_size=len(labels), sync_dist=True)

    def export(self, folder: Path) -> list[Path]:
        """Write ``attributes.safetensors`` in half precision."""
        file = folder / "attributes.safetensors"
        state = {name: value for name, value in self.ema.state_dict().items() if value.is_floating_point()}
        save_module(state, file, self.metadata())
        return [file]


def accuracy(said: Tensor, labels: Tensor) -> Tensor:
    """Return the share of right answers for each attribute, (40,); said (N, 40) bool, labels (N, 40) of 1 and -1."""
    return (said == (labels > 0)).float().mean(dim=0)


def balanced_accuracy(said: Tensor, labels: Tensor) -> Tensor:
    """Return the mean accuracy on present and on absent attributes, (40,); NaN where one class never occurs."""
    true = labels > 0
    present = (said & true).sum(dim=0) / true.sum(dim=0)
    absent = (~said & ~true).sum(dim=0) / (~true).sum(dim=0)
    return (present + absent) / 2


def make_attribute_training(config: Config) -> tuple[AttributeTraining, AttributeData]:
    """Make the training of ``train.module=attributes`` and its data."""
    return AttributeTraining(config), AttributeData(config)
