"""Training of mini's own recogniser, an IResNet with an additive cosine margin, from scratch.

MobileFaceNet has no part in it. It judges what is trained with this recogniser (the reward's phi), and a recogniser
distilled from it would share its errors.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipfvr.core.options import Config
from ipfvr.data.recognition import RecognitionData
from ipfvr.faces.iresnet import SIZE_KEY, IResNet, IResNetSize
from ipfvr.metrics.verification import verification
from ipfvr.models.backbone import save_module
from ipfvr.training.common import Trained

_AT_ONCE = 64  # pictures that validation embeds at a time


def margin_logits(cosines: Tensor, person: Tensor, margin: float, scale: float) -> Tensor:
    """Compute CosFace's logits (Wang et al., CVPR 2018, Eq. 4), ``s (cos theta_j - m [j is the right person])``.

    Args:
        cosines: (B, C), between each vector and each person's direction.
        person: (B,) numbers of the right people.
        margin: m.
        scale: s.

    Returns:
        (B, C), for a softmax cross-entropy.
    """
    right = functional.one_hot(person, cosines.shape[1]).to(cosines.dtype)
    return scale * (cosines - margin * right)


class RecogniserTraining(Trained):
    """Minimises the cross-entropy of CosFace's logits over the people of the training."""

    def __init__(self, config: Config, people: int) -> None:
        super().__init__(config)
        settings = config.recogniser
        size = IResNetSize(settings.blocks, settings.widths, settings.embedding, settings.stem_stride)
        net = IResNet(size, settings.dropout).to(memory_format=torch.channels_last)
        self.network = nn.ModuleDict({"net": net})
        self.network.register_parameter("directions", nn.Parameter(torch.randn(people, size.embedding) * 0.05))
        self.average()

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """Compute the loss of one batch; the margin grows from 0 during the warm-up."""
        settings = self.config.recogniser
        vectors = self.network["net"](batch["pixels"].contiguous(memory_format=torch.channels_last)).float()
        with torch.autocast(vectors.device.type, enabled=False):
            directions = functional.normalize(self.network.directions, dim=1)
            cosines = functional.normalize(vectors, dim=1) @ directions.T
            margin = settings.margin * min(1.0, self.global_step / max(1, self.config.optimizer.warmup))
            logits = margin_logits(cosines, batch["person"], margin, settings.scale)
            loss = functional.cross_entropy(logits, batch["person"], label_smoothing=settings.label_smoothing)
        right = (cosines.argmax(1) == batch["person"]).float().mean()
        self.log_dict({"loss": loss, "right": right}, prog_bar=True)
        return loss

    def validation_step(self, batch: dict, number: int) -> None:
        """Log the average's verification scores on all pairs of pictures of the held-out people."""
        pixels = batch["pixels"].contiguous(memory_format=torch.channels_last)
        vectors = torch.cat([self.ema["net"](part) for part in pixels.split(_AT_ONCE)]).float()
        scores = verification(functional.normalize(vectors, dim=1), batch["people"])
        metrics = {f"val/{name}": value for name, value in scores.items()}
        self.log_dict(metrics, batch_size=len(vectors), sync_dist=True)

    def export(self, folder: Path) -> list[Path]:
        """Write ``recogniser.safetensors`` in half precision, with its sizes in the header, without directions."""
        file = folder / "recogniser.safetensors"
        net = self.ema["net"]
        state = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
        save_module(state, file, {**self.metadata(), SIZE_KEY: json.dumps(net.size.to_dict())})
        return [file]


def make_recogniser_training(config: Config) -> tuple[RecogniserTraining, RecognitionData]:
    """Make the training of ``train.module=recogniser`` and its data."""
    data = RecognitionData(config)
    return RecogniserTraining(config, len(data.people)), data
