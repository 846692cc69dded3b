"""Networks that diffusers saves, loads, offloads and spreads over devices: a folder with configuration and weights.

    denoiser = make_denoiser(load_config())
    denoiser.save_pretrained("denoiser")                       # config.json, diffusion_pytorch_model.safetensors
    denoiser = VideoDenoiser.from_pretrained("denoiser", torch_dtype=torch.bfloat16)
    accelerate.cpu_offload(denoiser, "cuda")                    # weights wait in the processor's memory

The denoiser and the codec are such networks. The others are not: the text and the image encoder wrap models of
transformers, which have ``save_pretrained`` of their own; the image prompt reads networks that are not part of its
file, and that file has IP-Adapter's published layout (:mod:`ipfvr.models.adapter`).
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, ClassVar, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn


class PretrainedNetwork(ModelMixin, ConfigMixin):
    """A network of diffusers' kind whose sizes are a section of the project's options.

    diffusers keeps sizes as arguments of ``__init__``; here they are a dataclass, so that an option stands in one
    place. ``config`` is then diffusers' own: read only, by attribute or by key, and what ``config.json`` holds.

    Args:
        sizes: of the network, an instance of :attr:`section`.
        more: what else the network is made of and ``config.json`` must hold.

    Attributes:
        section: the dataclass.
    """

    config_name = "config.json"
    section: ClassVar[type]

    def __init__(self, sizes: Any, **more: Any) -> None:
        super().__init__()
        self.register_to_config(**asdict(sizes), **more)

    @classmethod
    def from_config(cls, config: dict[str, Any], return_unused_kwargs: bool = False, **changes: Any) -> Any:
        """Return a network with random weights; ``from_pretrained`` fills them.

        Args:
            config: what ``config.json`` holds.
            return_unused_kwargs: return those of ``changes`` as well that are no option of the network.
            changes: other values of single options.
        """
        known = {field.name for field in fields(cls.section)}
        values = {name: value for name, value in {**config, **changes}.items() if not name.startswith("_")}
        sizes = cls.section(**{name: value for name, value in values.items() if name in known})
        network = cls.of_config(sizes, values)
        unused = {name: value for name, value in changes.items() if name not in network.config}
        return (network, unused) if return_unused_kwargs else network

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast the network, see :meth:`torch.nn.Module.to`.

        diffusers 0.42 warns about every cast, even of a network without layers that have to stay in float32.
        """
        casts = "dtype" in kwargs or any(isinstance(word, torch.dtype) for word in args)
        return nn.Module.to(self, *args, **kwargs) if casts else super().to(*args, **kwargs)

    @classmethod
    def of_config(cls, sizes: Any, values: dict[str, Any]) -> Self:
        """Return the network of these sizes.

        Args:
            sizes: an instance of :attr:`section`.
            values: everything that ``config.json`` holds.
        """
        return cls(sizes)
