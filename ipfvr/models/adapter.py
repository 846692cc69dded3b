"""Files of the image prompt's weights, in IP-Adapter's published layout.

``image_proj.*`` is the projection, ``ip_adapter.<n>.to_k_ip.weight`` and ``to_v_ip.weight`` are K and V of the n-th
attention, counted over down blocks, up blocks and the middle. Self-attentions are counted too, so n is odd. Our own
files can also have ``face_proj.*`` (a recogniser's tokens) and ``image_encoder.*`` (an encoder that was trained with
them). Their header says what they were made for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from ipfvr.core.choices import Projections
from ipfvr.core.errors import UserError
from ipfvr.models.checkpoints import check_weights, read_weights
from ipfvr.models.image_prompt import ImagePrompt
from ipfvr.models.unet import VideoDenoiser

HEADER = "image_prompt"  # key of our files' header
# Options that do not have to match the weights, and options that projection=patches does not use.
_NOT_WEIGHTS = {"references", "without", "scale", "block_scales", "step_scales"}
_RESAMPLERS = {"tokens", "depth", "heads", "head_dim"}


def adapter_modules(prompt: ImagePrompt, denoiser: VideoDenoiser) -> nn.ModuleDict:
    """Collect the modules that an adapter trains, under the names that its files have. They are not copied.

    Args:
        prompt: has the projection.
        denoiser: after :meth:`~ipfvr.models.unet.VideoDenoiser.add_image_prompt`.
    """
    processors = [attention.processor for attention in denoiser.unet.cross_attentions()]
    projections = {"image_proj": prompt.image_proj, "face_proj": prompt.face_proj}
    modules = nn.ModuleDict({name: module for name, module in projections.items() if module is not None})
    if prompt.config.train_encoder and prompt.image is not None:
        modules["image_encoder"] = prompt.image.clip
    modules["ip_adapter"] = nn.ModuleDict({str(2 * n + 1): processor for n, processor in enumerate(processors)})
    return modules


def load_adapter(prompt: ImagePrompt, denoiser: VideoDenoiser, path: str | Path) -> None:
    """Load a published IP-Adapter's or our own safetensors file. Every key of it must be used.

    Raises:
        UserError: not a file of weights, keys missing, left over or of another shape, or a file of ours that was made
            for other encoders or another projection.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no adapter at {path}; see python -m ipfvr.weights")
    weights = read_weights(path)
    if path.suffix == ".safetensors":
        _check_header(path, prompt)
    load_adapter_weights(prompt, denoiser, weights, str(path))


def load_adapter_weights(
    prompt: ImagePrompt, denoiser: VideoDenoiser, weights: Mapping[str, Tensor], source: str = "weights"
) -> None:
    """Load weights into the projection and the cross-attentions, which keep their own type and device.

    Modules on the meta device take the given tensors themselves.

    Raises:
        UserError: as :func:`load_adapter`.
    """
    modules = adapter_modules(prompt, denoiser)
    own = modules.state_dict()
    check_weights([(name, tuple(value.shape)) for name, value in own.items()], weights, source, "image prompt")
    modules.load_state_dict(weights, assign=any(value.is_meta for value in own.values()))


def adapter_header(prompt: ImagePrompt) -> dict[str, str]:
    """Return the header of our own files: the projection and the recogniser that the weights were made for."""
    return {HEADER: json.dumps(_made_for(prompt))}


def _made_for(prompt: ImagePrompt) -> dict[str, object]:
    options = {k: v for k, v in asdict(prompt.config).items() if k not in _without_effect(prompt)}
    # Two recognisers of one shape have different spaces; CLIP's model is told apart by its shape and, in the
    # trainings' header, by its name.
    return options | ({"recogniser": prompt.recogniser.sha256} if prompt.recogniser is not None else {})


def _without_effect(prompt: ImagePrompt) -> set[str]:
    return _NOT_WEIGHTS | (_RESAMPLERS if prompt.config.projection == Projections.patches else set())


def _check_header(path: Path, prompt: ImagePrompt) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get(HEADER, "null"))
    ours = _made_for(prompt)
    if header is None:  # a published file says nothing
        return
    for key in sorted((header.keys() | ours.keys()) - _without_effect(prompt)):
        if header.get(key) != ours.get(key):
            option = "weights.face_encoder" if key == "recogniser" else f"image_prompt.{key}"
            raise UserError(
                f"{path} was made for another {option} ({header.get(key)}, here {ours.get(key)}); use the "
                "configuration that it was trained with"
            )
