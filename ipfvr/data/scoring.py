"""Clips to score, with their ground truths and references, shared out by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from ipfvr.video.footage import Clip


@dataclass(frozen=True)
class Item:
    """One clip to score.

    Attributes:
        index: its place among all of them.
        prediction: the restored clip.
        target: the ground truth, or None.
        references: pictures of the person; may be none.
    """

    index: int
    prediction: Clip
    target: Clip | None = None
    references: tuple[Path, ...] = ()


class ScoringData(pl.LightningDataModule):
    """Clips to score, one in each batch. Each process gets every n-th clip, so none is cut and none is scored twice.

    Lightning's own sampler would score some clips twice where their number does not divide evenly, so the Trainer must
    have ``use_distributed_sampler=False`` and at most as many processes as there are clips.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        super().__init__()
        self.items = list(items)

    def test_dataloader(self) -> DataLoader:
        """Return this process's share of the clips."""
        rank, count = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        return DataLoader(_Listed(self.items[rank::count]), batch_size=None)

    def transfer_batch_to_device(self, batch: Item, device: torch.device, dataloader_idx: int) -> Item:
        """Return the batch unchanged, because an item only names files."""
        return batch


class _Listed(Dataset):
    def __init__(self, items: list[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Item:
        return self.items[number]
