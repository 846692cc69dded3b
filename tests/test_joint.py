"""Parts of mini's last stage: joint training, tokens of a reference's own latents, frame convolutions, widening."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError
from ipfvr.fit import main
from ipfvr.metrics.niqe import Pristine
from ipfvr.models.appearance import AppearanceEncoder
from ipfvr.models.backbone import make_codec, make_denoiser, make_image_prompt
from ipfvr.models.blocks import FrameConvolution
from ipfvr.models.image_prompt import PatchProjection, PlaceProjection
from ipfvr.restoration.restorer import Restorer
from ipfvr.training.adapter import find_pristine, mean_niqe

ROOT = Path(__file__).parents[1]
APPEARANCE = ["preset=tiny", "image_prompt.source=appearance", "image_prompt.projection=patches"]


def test_a_frame_convolution_is_the_3d_convolution() -> None:
    torch.manual_seed(0)
    ours = FrameConvolution(6, 5, (3, 1, 1), padding=(1, 0, 0))
    theirs = nn.Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 4, 3, 7)
    for given in (x, x.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)):  # in both layouts
        assert torch.allclose(ours(given), theirs(x), atol=1e-6)


def test_states_lie_where_the_picture_has_them() -> None:
    """A change of one corner of the picture changes the state of that corner, and hardly those far away."""
    config = load_config(None, APPEARANCE)
    codec = make_codec(load_config(None, ["preset=tiny", "vae.output_norm=false", "vae.layers_per_block=1"]))
    encoder = AppearanceEncoder(codec, config.video.size)
    for module in codec.modules():  # group norms see the whole picture: leave them out
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    changed = picture.clone()
    changed[..., :4, :4] *= -1
    side = int(encoder.states**0.5)
    difference = (encoder(picture) - encoder(changed)).abs().sum(-1).reshape(side, side)
    assert encoder(picture).shape == (1, encoder.states, encoder.width)
    assert difference[side // 2 + 1 :, side // 2 + 1 :].max() < 0.01 * difference[0, 0]


def test_equal_states_at_different_places_give_different_tokens() -> None:
    projection = PlaceProjection(8, 12, places=4)
    tokens = projection(torch.ones(1, 4, 8))
    assert (tokens[0, 0] - tokens[0, 1]).abs().max() > 0.1
    without = PatchProjection(8, 12)
    same = without(torch.ones(1, 4, 8))
    assert torch.equal(same[0, 0], same[0, 1])


def test_appearance_needs_patches() -> None:
    face_encoder = "weights.face_encoder=mini/dlib"
    config = load_config(None, [*APPEARANCE, "image_prompt.projection=resampler", face_encoder])
    with pytest.raises(UserError, match="projection=patches"):
        make_image_prompt(config, make_denoiser(config))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("anna", "ben", "carl", "dora"):
        (root / name / "reference").mkdir(parents=True)
        for number in range(2):
            picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / name / "reference" / f"{number}.png")
    (root / "heldout.yaml").write_text("identities: [carl, dora]\n")
    return root


def test_joint_training_writes_weights_that_restore_reads(root: Path, tmp_path: Path) -> None:
    face_encoder = "weights.face_encoder=mini/dlib"
    (tmp_path / "train.yaml").write_text("preset: tiny\ntrain: {module: joint}\n")
    main(
        [
            "--config",
            str(tmp_path / "train.yaml"),
            *APPEARANCE[1:],
            face_encoder,
            f"data.root={root}",
            f"data.heldout={root / 'heldout.yaml'}",
            "data.references=1",
            "data.reference_variation=0.02",
            "data.batch_size=2",
            "data.clip_every=2",
            "data.moving_pictures=1",
            "data.face_motion=0.01",
            "data.clip_frames=3",
            "data.levels=[heavy,clean,small]",
            "loss.drop_image=0.5",
            "loss.strangers=0.5",
            "train.judge=mini/recogniser",
            "optimizer.steps=4",
            "optimizer.lr=0.01",
            "train.wandb=disabled",
            "train.precision=fp32",
            "train.accelerator=cpu",
            "train.validate_every=2",
            "train.validation_batches=1",
            "train.log_every=1",
            f"train.output={tmp_path / 'run'}",
        ]
    )
    weights = {part: tmp_path / "run" / "weights" / f"{part}.safetensors" for part in ("denoiser", "adapter")}
    assert load_file(weights["adapter"])["image_proj.places"].any()
    logged = (tmp_path / "run" / "log" / "from_0" / "metrics.csv").read_text().splitlines()[0]
    kinds = ("psnr", "identity") if find_pristine() is None else ("psnr", "identity", "niqe")
    wanted = {f"val/{kind}_{whose}" for kind in kinds for whose in ("right", "none", "wrong")}
    assert wanted <= set(logged.split(","))
    torch.manual_seed(0)
    pairs = [f"weights.{part}={path}" for part, path in weights.items()]
    restorer = Restorer(load_config(None, [*APPEARANCE, face_encoder, *pairs]))
    face = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tokens = restorer.conditions([face, face[::-1]]).image_tokens
    assert tokens.shape[1] == 2 * restorer.networks.image_prompt().count  # several references lie side by side


def test_a_frame_without_texture_does_not_count_in_niqe() -> None:
    features = torch.eye(36, dtype=torch.float64)
    pristine = Pristine(features[0], features)
    noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    both = mean_niqe(torch.cat([noise, torch.zeros(1, 3, 64, 64)]), pristine)
    assert both.isfinite()
    assert both == mean_niqe(noise, pristine)
    assert mean_niqe(torch.cat([noise] * 9), pristine) == pytest.approx(float(both)), "only the first are rated"


def widen() -> ModuleType:
    path = ROOT / "experiments" / "mini" / "widen.py"
    spec = importlib.util.spec_from_file_location("widen", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_widened_denoiser_does_to_the_coarse_half_what_the_first_does() -> None:
    """Reading A z' and writing A^T v: A of the new v is the old v of A z', for orthonormal rows."""
    torch.manual_seed(0)
    coarse = torch.linalg.qr(torch.randn(8, 4)).Q.T  # (4, 8)
    sizes = "denoiser.in_channels={}"
    small, large = (make_denoiser(load_config(None, ["preset=tiny", sizes.format(n)])) for n in (4, 8))
    nn.init.normal_(small.unet.conv_out.weight, std=0.1)
    nn.init.normal_(small.controlnet.zero_conv_middle.weight, std=0.1)
    large.load_state_dict(widen().widened(small.state_dict(), coarse))
    x, hint = torch.randn(2, 1, 8, 2, 8, 8)
    text, number, mask = torch.randn(1, 5, 16), torch.tensor([500]), torch.zeros(1, 2)

    def down(latent: torch.Tensor) -> torch.Tensor:
        return torch.einsum("cd,bdfhw->bcfhw", coarse, latent)

    with torch.no_grad():
        old = small(down(x), number, text, down(hint), number * 0, number * 0 + 2, mask)
        new = large(x, number, text, hint, number * 0, number * 0 + 2, mask)
    assert old.abs().max() > 0.01
    assert torch.allclose(down(new), old, atol=1e-4)
    assert torch.allclose(new, torch.einsum("cd,bcfhw->bdfhw", coarse, old), atol=1e-4)


def test_latents_of_the_halved_picture_are_the_coarse_map_of_the_pictures() -> None:
    from ipfvr.core.options import VAEConfig
    from ipfvr.models.vae import LatentCodec, start_from_principal_components

    torch.manual_seed(0)
    shape = {"norm_groups": 4, "layers_per_block": 1, "mid_attention": False, "output_norm": False}
    first = LatentCodec(
        VAEConfig(patch_size=2, latent_channels=12, block_out_channels=[12], scaling_factor=0.6, **shape)
    )
    second = LatentCodec(
        VAEConfig(patch_size=4, latent_channels=48, block_out_channels=[48], scaling_factor=0.3, **shape)
    )
    pictures = torch.rand(8, 3, 16, 16) * 2 - 1
    start_from_principal_components(first, functional.avg_pool2d(pictures, 2))
    start_from_principal_components(second, pictures)
    coarse = widen().coarse_map(first, second)
    assert torch.allclose(coarse @ coarse.T, torch.eye(12), atol=1e-4)  # all components are kept: exact
    with torch.no_grad():
        halved, whole = first.encode(functional.avg_pool2d(pictures, 2)), second.encode(pictures)
        offset = halved - torch.einsum("cd,bdhw->bchw", coarse, whole)
    assert offset.std(0).max() < 1e-4  # but for the means of the two codecs' patches
