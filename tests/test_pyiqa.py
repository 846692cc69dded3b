"""LPIPS, CLIP-IQA, MUSIQ and LIQE through the real pyiqa, with random weights of the shapes and names that it reads.

No registry carries their weights (docs/metrics.md). What is tested is that our files lie where pyiqa looks for them,
that its networks are what our table says of them, and that nothing is fetched. CLIP's networks are the smallest that
its reader accepts: it takes their sizes from the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ipfvr.core.errors import UserError
from ipfvr.core.hashes import sha256
from ipfvr.metrics import perceptual
from ipfvr.metrics.perceptual import Perceptual, load_network
from ipfvr.weights import registry

# Tracing CLIP warns of every comparison of shapes.
pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("pyiqa", reason="the extra iqa is not installed")

FRAME = (1, 3, 96, 96)
CPU = torch.device("cpu")


@pytest.fixture
def weights(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights, none of them there yet; pyiqa keeps what it makes in a folder of the test's own."""
    folder = bare / "weights"
    monkeypatch.setenv(registry.VARIABLE, str(folder))
    from pyiqa.archs import arch_util, liqe_arch
    from pyiqa.utils import download_util

    hub = bare / "cache" / "ipfvr" / "hub" / "pyiqa"
    hub.mkdir(parents=True)
    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(hub))
    monkeypatch.setattr(liqe_arch, "DEFAULT_CACHE_DIR", str(hub))
    real = arch_util.load_file_from_url
    by_hub = lambda url, model_dir=None, *rest, **more: real(url, str(hub), *rest, **more)  # noqa: E731
    for module in (arch_util, *(__import__(f"pyiqa.archs.{n}_arch", fromlist=[n]) for n in ("lpips", "clipiqa"))):
        monkeypatch.setattr(module, "load_file_from_url", by_hub, raising=False)
    return folder


def put(weights: Path, entry: str, name: str, content: Any) -> Path:
    """A file of an entry of the registry."""
    path = weights / "iqa" / entry / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, torch.jit.ScriptModule):
        content.save(path)
    else:
        torch.save(content, path)
    return path


def scored(key: str, *frames: torch.Tensor) -> float:
    """The number of a metric of one frame."""
    metric = Perceptual(key, load_network(key, CPU))
    metric.update(*frames)
    assert "sha256" in metric.info.network
    return metric.end_clip()


def test_lpips_is_nothing_of_equal_frames_and_grows_with_noise(weights: Path) -> None:
    from torchvision.models import alexnet

    torch.manual_seed(0)
    put(weights, "lpips", "alexnet-owt-7be5be79.pth", alexnet(weights=None).state_dict())
    heads = {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate((64, 192, 384, 256, 256))}
    put(weights, "lpips", "LPIPS_v0.1_alex-df73285e.pth", heads)
    frame, noise = torch.rand(FRAME), torch.randn(FRAME)
    found = [scored("lpips", (frame + sigma * noise).clamp(0, 1), frame) for sigma in (0.0, 0.02, 0.2)]
    assert found[0] == 0
    assert found[0] < found[1] < found[2]


def test_musiq_is_one_number_a_frame(weights: Path) -> None:
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.manual_seed(0)
    put(weights, "musiq", "musiq_koniq_ckpt-e95806b9.pth", MUSIQ(pretrained=False).state_dict())
    frame = torch.rand(FRAME)
    found = scored("musiq", frame)
    assert found == pytest.approx(scored("musiq", frame), abs=1e-5)
    assert abs(found - scored("musiq", frame / 2)) > 1e-4


def clip_network(vision: tuple) -> torch.jit.ScriptModule:
    """The smallest CLIP of a kind, as the archive that its authors' files are."""
    from clip.model import CLIP

    torch.manual_seed(0)
    embed, size, layers, width, patch = vision
    model = CLIP(embed, size, layers, width, patch, 77, 49408, 64, 1, 1).eval()
    text = torch.zeros(1, 77, dtype=torch.long)
    return torch.jit.trace(model, (torch.rand(1, 3, size, size), text), check_trace=False)


def believe(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    """Let CLIP's reader expect the hash of a file of ours, which it compares with that of the authors'."""
    from pyiqa.archs import clip_model

    monkeypatch.setitem(clip_model._MODELS, name, f"https://nowhere/{sha256(path)}/{path.name}")


def test_clip_iqa_is_a_share(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = clip_network((64, 224, (1, 1, 1, 1), 8, None))
    believe(monkeypatch, "RN50", put(weights, "clip-iqa", "RN50.pt", network))
    frame = torch.rand(FRAME)
    found = scored("clip_iqa", frame)
    assert 0 < found < 1
    assert found != scored("clip_iqa", frame / 2)


def test_liqe_is_a_mark_between_one_and_five(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiqa.archs.liqe_arch import LIQE

    path = put(weights, "liqe", "ViT-B-32.pt", clip_network((64, 224, 2, 64, 32)))
    believe(monkeypatch, "ViT-B/32", path)
    with perceptual._hub({"clip/ViT-B-32.pt": path}):
        network = LIQE(pretrained=False)
    put(weights, "liqe", "liqe_koniq.pt", {"params": network.state_dict()})
    frame = torch.rand(1, 3, 224, 224)
    found = scored("liqe", frame)
    assert 1 <= found <= 5
    assert found != scored("liqe", frame / 2)


def test_a_file_of_other_shapes_is_one_line(weights: Path) -> None:
    put(weights, "musiq", "musiq_koniq_ckpt-e95806b9.pth", {"head.weight": torch.zeros(1, 1)})
    with pytest.raises(UserError, match=r"pyiqa cannot make MUSIQ of .*fetch it again"):
        load_network("musiq", CPU)
