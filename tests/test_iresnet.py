"""IResNet: parity with the published networks, the file of this project, and ONNX files as insightface's."""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ipfvr.core.errors import UserError
from ipfvr.faces.iresnet import SIZE_KEY, IResNet, IResNetSize, load_iresnet, published_size
from ipfvr.faces.onnx_graph import load_onnx
from ipfvr.faces.recognise import load_recogniser
from ipfvr.models.backbone import save_module
from ipfvr.weights import registry

SMALL = IResNetSize((1, 2, 1, 1), (8, 16, 16, 24), 32)
PUBLISHED = {"iresnet18": (2, 2, 2, 2), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}
PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"


@pytest.fixture(scope="module")
def keys():
    if not (PARITY / "identity_keys.json").is_file():
        pytest.skip("../shared/parity is not here")
    return json.loads((PARITY / "identity_keys.json").read_text())


@pytest.fixture(scope="module")
def trained():
    """A small network whose batch norms do something: folding them must change every weight."""
    torch.manual_seed(0)
    net = IResNet(SMALL).eval()
    for name, value in net.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.3)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return net


def recipe(name: str, shape: list[int]) -> torch.Tensor:
    """Weights from a key's name, as the parity vectors' README says."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    a = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF).standard_normal(shape)
    if name.endswith("running_var"):
        a = 1 + 0.1 * np.abs(a)
    elif len(shape) == 1:
        a = 1 + 0.1 * a if name.endswith("weight") else 0.1 * a
    else:
        a = a / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(a.astype(np.float32))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_key(keys, name):
    with torch.device("meta"):
        net = IResNet(IResNetSize(PUBLISHED[name]))
        published = {key: torch.empty(shape) for key, shape in keys[name].items()}
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == keys[name]
    assert published_size(published) == net.size


def test_parity_with_arcface(keys, tmp_path):
    vectors = load_file(PARITY / "identity.safetensors")
    file = tmp_path / "r18.pth"
    torch.save({key: recipe(key, shape) for key, shape in keys["iresnet18"].items()}, file)
    recogniser = load_recogniser(str(file))
    with torch.no_grad():
        out = recogniser.net(vectors["iresnet18.in"])
        assert (out - vectors["iresnet18.out"]).abs().max() < 1e-4 * vectors["iresnet18.out"].std()
        # insightface's preprocessing, x / 127.5 - 1, is what pixels in [-1, 1] already are.
        unit = torch.nn.functional.normalize(recogniser.net(vectors["iresnet18.in"].clamp(-1, 1)))
        assert torch.allclose(recogniser.embed(vectors["iresnet18.in"].clamp(-1, 1)), unit, atol=1e-5)


def test_own_file_tells_its_size(trained, tmp_path):
    size = IResNetSize([1, 1, 1, 2], [8, 8, 16, 16], 24, stem_stride=2)
    torch.manual_seed(1)
    net = IResNet(size).eval()
    state = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
    file = tmp_path / "own.safetensors"
    save_module(state, file, {SIZE_KEY: json.dumps(size.to_dict())})
    x = torch.rand(2, 3, 112, 112) * 2 - 1
    loaded = load_iresnet(file)
    assert loaded.size == size
    assert torch.cosine_similarity(loaded.eval()(x), net(x)).min() > 0.9999  # half precision
    save_module(state, file, {})
    with pytest.raises(UserError, match="does not hold a recogniser"):
        load_recogniser(str(file))
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"own\.safetensors"):
        load_recogniser(str(file))


def test_shipped_recogniser():
    recogniser = load_recogniser("mini/recogniser")
    assert (recogniser.name, recogniser.net.size.embedding) == ("mini/recogniser", 128)
    assert "non-commercial" in recogniser.licence
    assert recogniser.path.stat().st_size < 5_000_000


def export(net: torch.nn.Module, file: Path, folded: bool) -> Path:
    pytest.importorskip("onnx")
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, 112, 112),),
        str(file),
        dynamo=False,
        training=mode,
        do_constant_folding=folded,
        input_names=["input.1"],
        output_names=["out"],
        dynamic_axes={"input.1": {0: "N"}, "out": {0: "N"}},
    )
    return file


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folded", [True, False])
def test_onnx_file(trained, tmp_path, folded):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    file = export(trained, tmp_path / "w600k_r50.onnx", folded)
    norms = sum(node.op_type == "BatchNormalization" for node in onnx.load(file).graph.node)
    # Those before a block's first convolution and around the linear layer cannot be folded.
    assert norms == (7 if folded else 22)
    recogniser = load_recogniser(str(tmp_path))  # as a pack's folder
    x = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(2)) * 2 - 1
    (theirs,) = onnxruntime.InferenceSession(str(file)).run(None, {"input.1": x.numpy()})
    assert torch.cosine_similarity(recogniser.net(x), torch.from_numpy(theirs)).min() > 1 - 1e-5
    assert torch.allclose(recogniser.embed(x), torch.nn.functional.normalize(trained(x)), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_gradient(trained, tmp_path, kind):
    net = load_onnx(export(trained, tmp_path / "a.onnx", True)).eval() if kind == "onnx" else trained
    state = {name: value.clone() for name, value in net.state_dict().items()}
    net = net.double()
    generator = torch.Generator().manual_seed(3)
    x, direction = torch.rand(2, 1, 3, 112, 112, dtype=torch.float64, generator=generator)
    target = torch.randn(SMALL.embedding, dtype=torch.float64, generator=generator)

    def likeness(pixels):
        return torch.nn.functional.normalize(net(pixels)) @ target

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(likeness(x).sum(), x)
    step = 1e-7  # small: the network has kinks
    with torch.no_grad():
        difference = (likeness(x + step * direction) - likeness(x - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-4)
    net.float().load_state_dict(state)


@pytest.mark.filterwarnings("ignore")
def test_published_onnx_file():
    pytest.importorskip("onnx")
    if any(registry.find(registry.ENTRIES[name]) is None for name in ("mobilefacenet", "mobilefacenet-onnx")):
        pytest.skip("MobileFaceNet's files are not here")
    x = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(4))
    ours = load_onnx(registry.locate("mobilefacenet-onnx"))(x)
    assert torch.cosine_similarity(ours, load_recogniser("mobilefacenet").net(x)).min() > 1 - 1e-5


@pytest.mark.filterwarnings("ignore")
def test_onnx_files_that_are_no_recogniser(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Sigmoid())
    with pytest.raises(UserError, match="Sigmoid"):
        load_onnx(export(other, tmp_path / "a.onnx", True))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing at all")
    with pytest.raises(UserError, match=r"broken\.onnx"):
        load_onnx(broken)
    with pytest.raises(UserError, match="not an insightface pack"):
        load_recogniser(str(tmp_path))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="pip install onnx"):
        load_onnx(broken)
