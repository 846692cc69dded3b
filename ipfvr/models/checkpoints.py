"""Weights of the denoiser: VEnhancer's official files and our own.

Official files (``venhancer_paper.pt``, ``venhancer_v2.pt``, or the same as safetensors) have names of their own, which
:func:`official_names` translates. Our own files are safetensors with our modules' names. The names in a file tell which
of the two it is. Files are mapped into memory, so that loading needs no second copy.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ipfvr.core.errors import UserError
from ipfvr.core.files import atomic
from ipfvr.models.blocks import VideoBlock
from ipfvr.models.unet import VideoDenoiser

# Our names inside a block (left) and VEnhancer's (right); "temopral" is its spelling.
_IN_BLOCK = {
    "residual.norm1": "0.in_layers.0",
    "residual.conv1": "0.in_layers.2",
    "residual.time_emb_proj": "0.emb_layers.1",
    "residual.norm2": "0.out_layers.0",
    "residual.conv2": "0.out_layers.3",
    "residual.conv_shortcut": "0.skip_connection",
    "temporal_conv": "0.temopral_conv",
    "spatial": "1",
    "temporal": "2",
    "conv": "op",
}
_OUTSIDE = {
    "step_embedding.mlp.linear_1": "time_embed.0",
    "step_embedding.mlp.linear_2": "time_embed.2",
    "scale_embedding.mlp.linear_1": "scale_cond.0",
    "scale_embedding.mlp.linear_2": "scale_cond.2",
    "conv_in": "input_blocks.0.0",
    "temporal_in": "input_blocks.0.1",
    "norm_out": "out.0",
    "conv_out": "out.2",
    "hint_conv": "input_hint_block",
    "hint_step": "hint_time_zero_linear",
    "zero_conv_middle": "middle_block_out.0",
}
_TEMPORAL_PROJECTION = re.compile(r"\.temporal(_in)?\.proj_(in|out)\.weight$")


def official_names(denoiser: VideoDenoiser) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Map our name of each weight to its name and shape in an official file.

    Official files have no image prompt, so its weights are left out.
    """
    return {
        name: (_official_name(denoiser, name), _official_shape(name, weight))
        for name, weight in own_weights(denoiser).items()
    }


def own_weights(denoiser: VideoDenoiser) -> dict[str, Tensor]:
    """Return the weights of U-Net and ControlNet by our names, without those of the image prompt."""
    return {k: v for k, v in denoiser.state_dict(keep_vars=True).items() if ".processor." not in k}


def to_official(denoiser: VideoDenoiser) -> dict[str, Tensor]:
    """Return the weights by the official names and in the official shapes, as views."""
    weights = own_weights(denoiser)
    return {name: weights[own].detach().reshape(shape) for own, (name, shape) in official_names(denoiser).items()}


def load_weights(
    denoiser: VideoDenoiser, weights: Mapping[str, Tensor], source: str = "weights", dtype: torch.dtype | None = None
) -> None:
    """Load official weights or our own into a denoiser.

    A denoiser on the meta device takes the given tensors themselves, cast to ``dtype`` if that is given. Any other
    denoiser copies them into its own tensors, which keep their type and device.

    Args:
        denoiser: the network to fill.
        weights: tensors by name; every one must be used.
        source: how error messages call the weights.
        dtype: type to which the tensors are cast, one by one.

    Raises:
        UserError: a name is missing, left over, or has another shape; the line names the first few.
    """
    own = {name: (name, tuple(weight.shape)) for name, weight in own_weights(denoiser).items()}
    expected = own if any(name in own for name in weights) else official_names(denoiser)
    check_weights(expected.values(), weights, source, "denoiser")
    on_meta = any(weight.is_meta for weight in own_weights(denoiser).values())
    state = {}
    for name, (theirs, _) in expected.items():
        tensor = weights[theirs].reshape(own[name][1])
        state[name] = tensor.to(dtype) if dtype is not None else tensor
    denoiser.load_state_dict(state, strict=False, assign=on_meta)  # names and shapes are checked above


def load_denoiser(denoiser: VideoDenoiser, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Load an official ``.pt`` or safetensors file, or one of :func:`save_denoiser`.

    The file is mapped into memory: a denoiser built under ``torch.device("meta")`` then needs no more memory than the
    file has bytes (if ``dtype`` is None). Do not move the file while the denoiser is in use.

    Args:
        denoiser: the network to fill, see :func:`load_weights`.
        path: the file.
        dtype: as in :func:`load_weights`.

    Raises:
        UserError: no such file, not a file of weights, or weights of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weights at {path}; see python -m ipfvr.weights")
    load_weights(denoiser, read_weights(path), str(path), dtype)


def save_denoiser(denoiser: VideoDenoiser, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write U-Net and ControlNet as safetensors under our own names. The file is complete or does not exist.

    Args:
        denoiser: the network whose weights are written.
        path: the file.
        metadata: for the header of the file.

    Raises:
        UserError: the file cannot be written.
    """
    weights = {name: weight.detach().contiguous() for name, weight in own_weights(denoiser).items()}
    with atomic(path) as temporary:
        save_file(weights, temporary, metadata=dict(metadata or {}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or a ``.pt`` file, mapped into memory if possible.

    Raises:
        UserError: not a file of weights.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not iterable)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a file of weights ({reason}); fetch it again") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise UserError(f"{path} does not hold a dictionary of tensors; is it a checkpoint?")
    return content


def check_weights(
    expected: Iterable[tuple[str, tuple[int, ...]]], weights: Mapping[str, Tensor], source: str, network: str
) -> None:
    """Check that a file has exactly the names and shapes of a network.

    Args:
        expected: (name, shape) of each weight.
        weights: the content of the file.
        source: how error messages call the file.
        network: how they call the network.

    Raises:
        UserError: a name is missing, left over, or has another shape; the line names the first few.
    """
    shapes = dict(expected)
    missing = [name for name in shapes if name not in weights]
    left_over = [name for name in weights if name not in shapes]
    reshaped = [
        f"{name} {tuple(weights[name].shape)} for {shapes[name]}"
        for name in shapes
        if name in weights and tuple(weights[name].shape) != shapes[name]
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("left over", left_over), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise UserError(
            f"{source} does not fit this {network}: {'; '.join(problems)}; use a file that was made for the "
            f"configuration's {network}"
        )


def _official_shape(name: str, weight: Tensor) -> tuple[int, ...]:
    # VEnhancer projects in and out of its temporal transformers by convolutions of length 1, we by linear layers.
    return (*weight.shape, 1) if _TEMPORAL_PROJECTION.search(name) else tuple(weight.shape)


def _official_name(denoiser: VideoDenoiser, name: str) -> str:
    network, rest = name.split(".", 1)
    prefix = "VideoControlNet." if network == "controlnet" else ""
    parts = rest.split(".", 2)
    if parts[0] == "down":
        inside = f"input_blocks.{int(parts[1]) + 1}.{_inside(parts[2])}"
    elif parts[0] == "up":
        block: VideoBlock = denoiser.unet.up[int(parts[1])]
        number = 3 if block.spatial is not None else 1
        inner = parts[2].replace("upsample.", f"{number}.") if parts[2].startswith("upsample.") else _inside(parts[2])
        inside = f"output_blocks.{parts[1]}.{inner}"
    elif parts[0] == "middle":
        inner = _inside(parts[2])
        # The middle is one list in VEnhancer: residual, spatial, temporal, residual.
        inside = f"middle_block.{inner}" if parts[1] == "0" else f"middle_block.3.{inner.removeprefix('0.')}"
    elif parts[0] == "zero_convs":
        inside = f"zero_convs.{parts[1]}.0.{parts[2]}"
    else:
        inside = _swap(rest, _OUTSIDE)
    return prefix + inside.replace(".block.", ".transformer_blocks.0.")


def _inside(name: str) -> str:
    return _swap(name, _IN_BLOCK)


def _swap(name: str, table: Mapping[str, str]) -> str:
    ours = next(key for key in table if name.startswith(key + "."))
    return table[ours] + name[len(ours) :]
