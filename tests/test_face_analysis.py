"""insightface's FaceAnalysis as a detector, on a pack in its format whose network is random."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ipfvr.core.errors import UserError
from ipfvr.core.options import FacesConfig
from ipfvr.data.sample import portrait
from ipfvr.faces.detect import make_detector
from ipfvr.weights import registry
from ipfvr.weights.catalogue import ENTRIES
from ipfvr.weights.needs import PACKS


@pytest.fixture
def pack(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """buffalo_l with a detector of SCRFD's form: at each stride scores, boxes and points of two anchors a place."""
    pytest.importorskip("insightface")
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    nodes, constants, outputs = [], [], []
    for values, name in ((1, "score"), (4, "box"), (10, "points")):
        for stride in (8, 16, 32):
            tag = f"{name}{stride}"
            weights = rng.normal(0, 0.4, (2 * values, 3, 1, 1)).astype(np.float32)
            bias = np.full(2 * values, -1.0 if name == "score" else 3.0, np.float32)
            constants += [
                onnx.numpy_helper.from_array(weights, f"{tag}.w"),
                onnx.numpy_helper.from_array(bias, f"{tag}.b"),
                onnx.numpy_helper.from_array(np.array([-1, values]), f"{tag}.s"),
            ]
            window = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
            nodes += [
                helper.make_node("AveragePool", ["image"], [f"{tag}.1"], **window),
                helper.make_node("Conv", [f"{tag}.1", f"{tag}.w", f"{tag}.b"], [f"{tag}.2"]),
                helper.make_node("Transpose", [f"{tag}.2"], [f"{tag}.3"], perm=[2, 3, 0, 1]),
                helper.make_node("Reshape", [f"{tag}.3", f"{tag}.s"], [f"{tag}.4"]),
                helper.make_node("Sigmoid" if name == "score" else "Relu", [f"{tag}.4"], [tag]),
            ]
            outputs.append(helper.make_tensor_value_info(tag, kinds.FLOAT, ["n" + tag, values]))
    image = helper.make_tensor_value_info("image", kinds.FLOAT, [1, 3, "h", "w"])
    model = helper.make_model(
        helper.make_graph(nodes, "det", [image], outputs, constants), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    folder = bare / "buffalo_l"
    folder.mkdir()
    onnx.save(model, folder / "det_10g.onnx")
    (folder / "w600k_r50.onnx").write_bytes(b"the recogniser, which a detector does not read")
    monkeypatch.setenv(registry.VARIABLE, str(bare))
    return folder


def as_pack(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be the pack, whose files have not the registered sizes."""
    monkeypatch.setattr("ipfvr.faces.detect.locate", lambda n: folder if n == "buffalo_l" else registry.locate(n))


def test_its_faces_are_those_of_the_package(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from insightface.app import FaceAnalysis

    (pack / "w600k_r50.onnx").unlink()  # for the package's own reading of everything
    theirs = FaceAnalysis(str(pack), allowed_modules=["detection"], providers=["CPUExecutionProvider"])
    theirs.prepare(ctx_id=-1, det_thresh=0.3, det_size=(640, 640))
    picture = portrait()
    wanted = theirs.get(np.ascontiguousarray(picture[..., ::-1]))
    as_pack(monkeypatch, pack)
    detector = make_detector(FacesConfig(detector="insightface", refine=False, min_confidence=0.3))
    found = detector.detect(picture)
    assert detector.name == "insightface"
    assert detector.weights == {"insightface": pack}
    assert len(found) == len(wanted) > 0
    ours = sorted([*f.box, *f.landmarks.ravel()] for f in found)
    given = sorted([*f.bbox[:2], *(f.bbox[2:] - f.bbox[:2]), *np.ravel(f.kps)] for f in wanted)
    assert np.allclose(ours, given, atol=0.02)


def test_a_pack_that_cannot_be_read_is_one_line(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pack / "det_10g.onnx").write_bytes(b"no network")
    as_pack(monkeypatch, pack)
    with pytest.raises(UserError, match="cannot read the pack"):
        make_detector(FacesConfig(detector="insightface"))


def test_without_a_pack_its_place_and_its_licence_are_named(bare: Path) -> None:
    with pytest.raises(UserError, match=r"buffalo_l.*non-commercial"):
        make_detector(FacesConfig(detector="insightface"))
    assert set(PACKS) <= set(ENTRIES)


def test_without_the_package_its_installation_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_pack(monkeypatch, bare)
    for module in ("insightface", "insightface.app"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'ipfvr\[face\]'"):
        make_detector(FacesConfig(detector="insightface"))
