"""Scores clips under Lightning's ``Trainer.test``, with the same numbers for any number of processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn

from ipfvr.core.errors import UserError
from ipfvr.core.messages import progress_bar, quiet_lightning
from ipfvr.data.scoring import Item, ScoringData
from ipfvr.metrics.evaluation import ClipScores, Scorer, evaluate_clip
from ipfvr.video.reader import read_image


class Evaluation(pl.LightningModule):
    """Scores clips; run it by :func:`evaluate_items`.

    Attributes:
        scorer: of this process, from the start of the test on.
        rows: every clip's scores in the items' order, on each process, from the end of the test on.
        failure: why the first clip that could not be scored failed.
        means: the mean of each metric over all clips and processes, by key, as torchmetrics computes it.

    Args:
        make: makes the scorer on this process's device.
        resize: resize predictions to the ground truth's size.
        choose: number of the face in a reference picture, counted from the left, from 1.
    """

    def __init__(
        self,
        make: Callable[[torch.device], Scorer],
        resize: bool = False,
        choose: int | None = None,
    ) -> None:
        super().__init__()
        self.make, self.resize, self.choose = make, resize, choose
        self.rows: list[ClipScores] = []
        self.failure: str | None = None
        self.means: dict[str, float] = {}
        self._done: list[tuple[int, ClipScores | str]] = []
        self._embeddings: dict[tuple[Path, ...], Tensor | None] = {}

    def on_test_start(self) -> None:
        """Load the networks on this process's device."""
        self.scorer = self.make(self.device)
        self.metrics = nn.ModuleDict(self.scorer.metrics())
        self._done, self._embeddings = [], {}
        self._bar = progress_bar(None, "scoring", "frame", shown=self.trainer.is_global_zero)

    def test_step(self, item: Item, number: int) -> None:
        """Score one clip. A user's error is raised later, since a process that stops leaves the others waiting."""
        try:
            self._done.append((item.index, self._score(item)))
        except UserError as error:
            self._done.append((item.index, str(error)))

    def on_test_epoch_end(self) -> None:
        """Gather the rows of all processes and synchronise the metrics."""
        self._bar.close()
        parts = [self._done]
        if distributed.is_available() and distributed.is_initialized():
            parts = [None] * distributed.get_world_size()
            distributed.all_gather_object(parts, self._done)
        done = sorted((pair for part in parts for pair in part), key=lambda pair: pair[0])
        self.failure = next((row for _, row in done if isinstance(row, str)), None)
        self.rows = [row for _, row in done if not isinstance(row, str)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns about a metric that had no clip
            self.means = {key: float(metric.compute()) for key, metric in self.metrics.items()}

    def _score(self, item: Item) -> ClipScores:
        paths = item.references
        if paths and paths not in self._embeddings:
            pictures = {str(path): read_image(path) for path in paths}
            self._embeddings[paths] = self.scorer.embed_reference(pictures, self.choose)
        start = self._bar.n
        return evaluate_clip(
            item.prediction,
            item.target,
            self._embeddings.get(paths),
            self.scorer,
            name=item.prediction.name,
            resize=self.resize,
            progress=lambda done: self._bar.update(start + done - self._bar.n),
            metrics=dict(self.metrics),
        )


def evaluate_items(
    items: Sequence[Item],
    make: Callable[[torch.device], Scorer],
    device: torch.device,
    devices: int = 1,
    *,
    resize: bool = False,
    choose: int | None = None,
) -> Evaluation:
    """Score clips by ``Trainer.test``.

    With several processes Lightning starts this program again for each of them, and all of them return.

    Args:
        items: the clips.
        make: makes the scorer on a device.
        device: of a single process; several processes use devices of its type.
        devices: number of processes; there are never more than clips.
        resize, choose: as of :class:`Evaluation`.

    Returns:
        The module with its rows and means; the process with ``trainer.is_global_zero`` should print them.

    Raises:
        UserError: a clip cannot be scored, or there are fewer devices than requested.
    """
    count = max(1, min(devices, len(items)))
    if device.type == "cuda" and count > torch.cuda.device_count():
        raise UserError(f"--devices {devices}: there are {torch.cuda.device_count()} GPUs")
    module = Evaluation(make, resize, choose)
    one = [device.index or 0] if device.type == "cuda" else 1
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=one if count == 1 else count,
            strategy="ddp" if count > 1 else "auto",
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,  # the metrics keep the clip's last frames: ordinary tensors, without a graph
        )
        trainer.test(module, ScoringData(items), verbose=False)
    # Raised after the test: a process that ended in the middle of it would leave the others waiting.
    if module.failure is not None and trainer.is_global_zero:
        raise UserError(module.failure)
    return module
