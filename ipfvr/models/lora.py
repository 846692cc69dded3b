"""LoRA of one person: low-rank adapters of the U-Net's attentions, made and stored by peft.

The adapters change queries, keys, values and outputs (``lora.targets``) of every attention in the spatial and temporal
transformers of the U-Net (``lora.layers``), the paper's "spatial and temporal layers". They do not change the
ControlNet, the convolutions or the image prompt's K_i and V_i.

A folder holds ``adapter_config.json`` and ``adapter_model.safetensors``, which ``peft.PeftModel.from_pretrained``
loads onto a denoiser's ``unet``, and a card: ``card.json``, with the base it belongs to, and ``README.md`` for readers.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from torch import nn

from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic, check_writable, write_json
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config, LoraConfig
from ipfvr.models.unet import VideoDenoiser, VideoUNet
from ipfvr.weights.registry import locate

SETTINGS, WEIGHTS, CARD, README = "adapter_config.json", "adapter_model.safetensors", "card.json", "README.md"
LAYERS = {"spatial": "spatial", "temporal": "temporal(_in)?"}
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
_PREFIX, _PART = "base_model.model.", re.compile(r"\.lora_([AB])\.weight$")


def target_pattern(config: LoraConfig) -> str:
    """Return the regular expression that matches the names of the adapted layers.

    Raises:
        UserError: an unknown layer or target, or none.
    """
    for option, chosen, known in (("layers", config.layers, LAYERS), ("targets", config.targets, TARGETS)):
        wrong = [name for name in chosen if name not in known]
        if wrong or not chosen:
            raise UserError(f"lora.{option} has {wrong or 'no entry'}: choose from {', '.join(known)}")
    layers = "|".join(LAYERS[name] for name in config.layers)
    return rf"(.*\.)?({layers})\.block\.attn[12]\.({'|'.join(re.escape(name) for name in config.targets)})"


def add_lora(unet: VideoUNet, config: LoraConfig) -> PeftModel:
    """Add new adapters to the U-Net. Only they require gradients; since B = 0, the outputs do not change yet.

    Raises:
        UserError: invalid settings.
    """
    if config.rank < 1 or not 0 <= config.dropout < 1:
        raise UserError(f"lora.rank {config.rank} must be at least 1 and lora.dropout {config.dropout} in [0, 1)")
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=target_pattern(config),
        bias="none",
    )
    return peft.get_peft_model(unet, settings)


def base_record(config: Config) -> dict[str, str]:
    """Return the name and the SHA-256 of the base weights that a LoRA belongs to."""
    name = config.weights.denoiser
    if not name:
        return {"weights": "", "sha256": f"random weights, preset {config.preset}, seed {config.seed}"}
    return {"weights": name, "sha256": sha256(locate(name))}


def save_lora(model: PeftModel, folder: Path, card: Mapping[str, Any]) -> list[Path]:
    """Write adapters and card. :func:`read_card` rejects a folder that was only partly written.

    Args:
        model: of :func:`add_lora`.
        folder: created if it does not exist.
        card: what made the adapters; its ``base`` comes from :func:`base_record`.

    Returns:
        The files.
    """
    check_writable(folder / CARD)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as temporary:
        model.save_pretrained(temporary)
        for name in (SETTINGS, WEIGHTS):
            with atomic(folder / name) as partial:
                os.replace(Path(temporary) / name, partial)
    write_json(folder / CARD, {**card, "adapter_sha256": sha256(folder / WEIGHTS)})
    with atomic(folder / README) as partial:
        partial.write_text(_readme(card))
    return [folder / name for name in (SETTINGS, WEIGHTS, CARD, README)]


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a LoRA folder and check that the folder is complete.

    Raises:
        UserError: there is no folder, a file is missing or unreadable, or the weights are not those of the card.
    """
    if not folder.is_dir():
        raise UserError(f"no LoRA folder {folder}: give the one that holds {SETTINGS}, as fit prints it")
    for name in (SETTINGS, WEIGHTS, CARD):
        if not (folder / name).is_file():
            raise UserError(f"the LoRA folder {folder} is broken: {name} is missing; train it again")
    contents = {}
    for name in (SETTINGS, CARD):
        try:
            contents[name] = json.loads((folder / name).read_text())
        except ValueError as error:
            raise UserError(f"the LoRA folder {folder} is broken: {name} is not JSON ({error})") from None
    card = contents[CARD]
    if not isinstance(card, dict) or not {"base", "adapter_sha256"} <= set(card):
        raise UserError(f"the LoRA folder {folder} is broken: {CARD} names no base or no adapter_sha256")
    if sha256(folder / WEIGHTS) != card["adapter_sha256"]:
        raise UserError(f"the LoRA folder {folder} is broken: {WEIGHTS} is not the file that {CARD} speaks of")
    return card


def load_lora(denoiser: VideoDenoiser, folder: Path, config: Config) -> dict[str, Any]:
    """Merge a person's LoRA into a denoiser, which then costs no more than before.

    Args:
        denoiser: has the weights that ``config`` names; it is changed in place.
        folder: of :func:`save_lora`.
        config: of the denoiser.

    Returns:
        The card.

    Raises:
        UserError: the folder is broken, or the LoRA was trained on another base.
    """
    card, base = read_card(folder), base_record(config)
    if card["base"] != base and card["base"].get("sha256") != base["sha256"]:
        theirs, mine = card["base"], base
        raise UserError(
            f"the LoRA {folder} was trained on {theirs.get('weights') or 'other weights'} "
            f"({str(theirs.get('sha256'))[:12]}), the denoiser is {mine['weights'] or 'of random weights'} "
            f"({mine['sha256'][:12]}): give weights.denoiser that it was trained on, or train it anew"
        )
    _check_shapes(denoiser.unet, folder)
    model = PeftModel.from_pretrained(denoiser.unet, str(folder))
    denoiser.unet = model.merge_and_unload().requires_grad_(False)
    return card


def _check_shapes(unet: VideoUNet, folder: Path) -> None:
    """Reject adapters that do not fit the network's layers."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not iterable)
    except (SafetensorError, OSError) as error:
        raise UserError(f"the LoRA folder {folder} is broken: {WEIGHTS} cannot be read ({error})") from None
    linear = {name: module for name, module in unet.named_modules() if isinstance(module, nn.Linear)}
    for name, shape in shapes.items():
        part = _PART.search(name)
        layer = linear.get(name.removeprefix(_PREFIX)[: -len(part[0])]) if part else None
        width = None if layer is None else (layer.in_features if part[1] == "A" else layer.out_features)
        if width is None or width != shape[1 if part[1] == "A" else 0]:
            raise UserError(
                f"the LoRA {folder} does not fit this denoiser at '{name}': it was trained on a network of other sizes"
            )


def _readme(card: Mapping[str, Any]) -> str:
    """Write the card as Markdown for readers."""
    lines = [
        f"# LoRA of {card.get('identity', 'a person')}",
        "",
        "Low-rank adapters (peft) for the U-Net of a face video restorer, made by ipfvr. Use:",
        "",
        "    python -m ipfvr.restore OLD.mp4 --lora THIS_FOLDER --output RESTORED.mp4",
        "",
    ]
    for key, value in card.items():
        if isinstance(value, list):
            lines += [f"- {key}:", *(f"  - {json.dumps(item, default=str)}" for item in value)]
        elif isinstance(value, Mapping):
            lines += [f"- {key}:", *(f"  - {k}: {json.dumps(v, default=str)}" for k, v in value.items())]
        else:
            lines.append(f"- {key}: {value}")
    return "\n".join(lines) + "\n"
