"""dlib's recogniser: its file format, its network against the layers one by one, and dlib itself where it is there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ipfvr.core.errors import UserError
from ipfvr.faces.align import arcface_template
from ipfvr.faces.dlib_resnet import CHIP, DlibResNet, is_shipped_dlib, load_dlib, load_shipped_dlib, save_dlib
from ipfvr.faces.recognise import load_recogniser
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES


def integer(value: int) -> bytes:
    body = abs(value).to_bytes((abs(value).bit_length() + 7) // 8 or 1, "little")
    return bytes([len(body) | (0x80 if value < 0 else 0)]) + body


def layer(tag: str, values: Tensor, *before: int) -> bytes:
    head = b"".join(integer(n) for n in (*before, 2, values.numel(), 1, 1, 1))
    return tag.encode() + head + struct.pack(f"<{values.numel()}f", *values.tolist()) + b"\x01\x07"


@pytest.fixture(scope="module")
def layers() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Weight, bias and affine of every convolution, then the last layer."""
    torch.manual_seed(0)
    shapes = [m.weight.shape for m in DlibResNet().modules() if isinstance(m, nn.Conv2d)]
    return [(torch.randn(s) / s[1:].numel() ** 0.5, torch.randn(s[0]), torch.rand(2 * s[0])) for s in shapes]


@pytest.fixture(scope="module")
def file(layers: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = [b"\x01\x01loss_metric_2"]
    for weight, bias, affine in layers:
        parts += [layer("con_4", torch.cat([weight.flatten(), bias])), layer("affine_", affine)]
    parts.append(layer("fc_2", torch.eye(256)[:, :128].flatten(), 128, 256))
    path = tmp_path_factory.mktemp("dlib") / "net.dat"
    path.write_bytes(b"".join(parts))
    return path


def test_the_file_is_read_and_affine_layers_are_folded(file: Path, layers: list) -> None:
    """Layer by layer, as dlib has them: convolution, then gain and offset of its channels."""

    def unit(x: Tensor, number: int, stride: int, padding: int) -> Tensor:
        weight, bias, affine = layers[number]
        gain, offset = affine[:, None, None].chunk(2)
        return F.conv2d(x, weight, bias, stride, padding) * gain + offset

    def added(a: Tensor, b: Tensor) -> Tensor:
        total = a.new_zeros(len(a), *(max(m, n) for m, n in zip(a.shape[1:], b.shape[1:], strict=True)))
        for part in (a, b):
            total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
        return total

    torch.manual_seed(1)
    chips = torch.randn(2, 3, 150, 150)
    x = F.max_pool2d(unit(chips, 0, 2, 0).relu(), 3, 2)
    number = 1
    for blocks, halved in ((3, False), (4, True), (3, True), (3, True), (1, True)):
        for block in range(blocks):
            half = halved and block == 0
            y = unit(unit(x, number, 2 if half else 1, 0 if half else 1).relu(), number + 1, 1, 1)
            x = added(y, F.avg_pool2d(x, 2) if half else x).relu()
            number += 2
    with torch.no_grad():
        found = load_dlib(file).of_chips(chips)
    assert number == len(layers)
    assert torch.allclose(found, x.mean((2, 3))[:, :128], rtol=1e-4, atol=1e-5 * float(x.abs().max()))


def test_the_chip_is_a_window_of_the_crop() -> None:
    """A crop whose colour is its coordinate tells where each pixel of the chip comes from."""
    place = torch.arange(112.0)
    crop = torch.stack([place.expand(112, 112), place[:, None].expand(112, 112), torch.zeros(112, 112)])[None]
    chip = DlibResNet().chips(crop)[0]
    left, top, side = CHIP
    assert torch.allclose(chip[0, 0], left + torch.linspace(0, side, 150), atol=1e-4)
    assert torch.allclose(chip[1, :, 0], (top + torch.linspace(0, side, 150)).clamp(max=111), atol=1e-4)
    inside = (arcface_template() - (left, top)) / side
    assert inside.min() > 0.1
    assert inside.max() < 0.9


def test_gradients_agree_with_finite_differences(file: Path) -> None:
    torch.manual_seed(2)
    net = load_dlib(file).double()
    x, direction = torch.rand(1, 3, 112, 112, dtype=torch.double), torch.randn(1, 3, 112, 112, dtype=torch.double)

    def value(z: Tensor) -> Tensor:
        return net(z)[0, :8].sin().sum()

    (gradient,) = torch.autograd.grad(value(x.requires_grad_(True)), x)
    with torch.no_grad():
        slope = (value(x + 1e-6 * direction) - value(x - 1e-6 * direction)) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-4)


def test_another_file_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.dat").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "half.dat").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for name in ("noise.dat", "half.dat"):
        with pytest.raises(UserError, match="is not dlib's face recognition network") as error:
            load_dlib(tmp_path / name)
        assert "\n" not in str(error.value)


def test_the_shipped_form_is_the_same_network(file: Path, tmp_path: Path) -> None:
    """Up to half precision, and the same bytes each time: the adapter's header knows its recogniser by its hash."""
    net = load_dlib(file)
    path, again = tmp_path / "net.safetensors", tmp_path / "again.safetensors"
    for place in (path, again):
        save_dlib(net, place, "made by a test")
    assert path.read_bytes() == again.read_bytes()
    assert is_shipped_dlib(path)
    chips = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        a, b = (F.normalize(n.of_chips(chips)) for n in (net, load_shipped_dlib(path)))
    assert float((a * b).sum(1).min()) > 1 - 1e-4
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="does not hold dlib's network"):
        load_shipped_dlib(path)


def test_the_shipped_recogniser_has_its_own_licence() -> None:
    recogniser = load_recogniser("mini/dlib")
    assert (recogniser.name, recogniser.licence) == ("mini/dlib", "CC0-1.0")
    assert recogniser.embed(torch.zeros(1, 3, 112, 112)).norm() == pytest.approx(1, abs=1e-5)


def test_a_file_that_a_package_brings_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is found, not imported: importing this one would fail."""
    entry = ENTRIES["dlib"]
    package = tmp_path / entry.package
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    assert package in registry.search_folders(entry.package)
    assert "pip install face-recognition-models" in registry.missing(entry)


def test_dlib_itself_gives_the_same_vectors() -> None:
    dlib = pytest.importorskip("dlib", reason="dlib is not installed: pip install dlib-bin")
    path = registry.find(ENTRIES["dlib"])
    if path is None:
        pytest.skip("the weights are not here: pip install face-recognition-models")
    theirs = dlib.face_recognition_model_v1(str(path))
    net = load_dlib(path).eval()
    rng = np.random.default_rng(0)
    for _ in range(3):
        chip = rng.integers(0, 256, (150, 150, 3), dtype=np.uint8)
        x = (torch.from_numpy(chip).permute(2, 0, 1)[None] / 255 - torch.tensor(net.MEAN)[:, None, None]) / net.STD[0]
        with torch.no_grad():
            assert np.abs(net.of_chips(x)[0].numpy() - np.array(theirs.compute_face_descriptor(chip))).max() < 1e-5
