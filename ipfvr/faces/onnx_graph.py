"""A recogniser's ONNX file as a torch network, so that gradients flow through it.

The file's own graph is run node by node, so it does not matter whether Conv and BatchNormalization were folded when
the file was written, nor how the nodes are called. The handful of operators that recognisers consist of is
understood. onnx2torch would do the same; its last release is of August 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipfvr.core.errors import UserError
from ipfvr.faces.align import ARCFACE_SIZE

Inputs = list[Tensor | None]
Attributes = dict[str, Any]


class OnnxNet(nn.Module):
    """A graph with one input (N, 3, 112, 112) and one output (N, D).

    Args:
        nodes: (operator, attributes, names of the inputs, name of the output) in the order of the graph.
        constants: what the graph holds, by name.
        source: name of the graph's input.
        result: name of the graph's output.
    """

    MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of insightface: x / 127.5 - 1

    def __init__(
        self,
        nodes: list[tuple[str, Attributes, list[str], str]],
        constants: dict[str, Tensor],
        source: str,
        result: str,
    ) -> None:
        super().__init__()
        self.nodes, self.source, self.result = nodes, source, result
        self.places = {name: f"constant{number}" for number, name in enumerate(constants)}
        for name, place in self.places.items():
            self.register_buffer(place, constants[name])
        # A value is deleted after its last use; otherwise a deep network's whole history would stay in memory.
        last = {name: number for number, (_, _, inputs, _) in enumerate(nodes) for name in inputs}
        last.pop(result, None)
        self.spent = [[n for n in set(inputs) if last.get(n) == i] for i, (_, _, inputs, _) in enumerate(nodes)]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        values = {name: self.get_buffer(place) for name, place in self.places.items()} | {self.source: x}
        for (operator, attributes, inputs, output), spent in zip(self.nodes, self.spent, strict=True):
            values[output] = _OPERATORS[operator]([values[name] if name else None for name in inputs], attributes)
            for name in spent:
                values.pop(name, None)
        return values[self.result]


def load_onnx(path: Path) -> OnnxNet:
    """Read an ArcFace-class recogniser: RGB (N, 3, 112, 112), ``x / 127.5 - 1``, to one vector for each face.

    Raises:
        UserError: the package ``onnx`` is missing, the file is not ONNX, its graph is no such recogniser or uses an
            operator that is not understood.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise UserError(f"{path.name} is read with a package that is missing: pip install onnx") from None
    try:
        graph = onnx.load(path).graph
    except Exception as error:
        raise UserError(f"{path} is not a whole ONNX file ({str(error).splitlines()[0]})") from None
    constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            constants[node.output[0]] = torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy())
        elif node.op_type in _OPERATORS:
            nodes.append((node.op_type, attributes, list(node.input), node.output[0]))
        else:
            raise UserError(f"{path}: the ONNX operator {node.op_type} is not one of a recogniser's")
    sources = [value for value in graph.input if value.name not in constants]  # old files list the weights, too
    sides = [[d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in sources]
    if sides != [[3, ARCFACE_SIZE, ARCFACE_SIZE]] or len(graph.output) != 1:
        raise UserError(f"{path} is not a recogniser: it must take (N, 3, 112, 112) and give one vector a face")
    return OnnxNet(nodes, constants, sources[0].name, graph.output[0].name)


def _conv(x: Inputs, a: Attributes) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    even = (top, left) == (bottom, right)
    data = x[0] if even else F.pad(x[0], (left, right, top, bottom))
    padding, bias = (top, left) if even else 0, x[2] if len(x) > 2 else None
    return F.conv2d(data, x[1], bias, a.get("strides", 1), padding, a.get("dilations", 1), a.get("group", 1))


def _batch_norm(x: Inputs, a: Attributes) -> Tensor:
    data, weight, bias, mean, variance = x
    return F.batch_norm(data, mean, variance, weight, bias, False, eps=a.get("epsilon", 1e-5))


def _prelu(x: Inputs, a: Attributes) -> Tensor:
    return torch.where(x[0] < 0, x[0] * x[1], x[0])


def _gemm(x: Inputs, a: Attributes) -> Tensor:
    left, right = x[0].T if a.get("transA") else x[0], x[1].T if a.get("transB") else x[1]
    product = a.get("alpha", 1.0) * (left @ right)
    return product + a.get("beta", 1.0) * x[2] if len(x) > 2 else product


def _clip(x: Inputs, a: Attributes) -> Tensor:
    low, high = [*x[1:], None, None][:2]
    return x[0].clamp(a.get("min") if low is None else low, a.get("max") if high is None else high)


def _reshape(x: Inputs, a: Attributes) -> Tensor:
    shape = [x[0].shape[i] if side == 0 else side for i, side in enumerate(x[1].tolist())]
    return x[0].reshape(len(x[0]), *shape[1:])  # the first is the batch, whatever number the file was written with


def _unsqueeze(x: Inputs, a: Attributes) -> Tensor:
    # An attribute in old files, an input since operator set 13. Of a slope's axes the first come first.
    data = x[0]
    for axis in sorted(a["axes"] if "axes" in a else x[1].tolist()):
        data = data.unsqueeze(axis)
    return data


_OPERATORS: dict[str, Callable[[Inputs, Attributes], Tensor]] = {
    "Add": lambda x, a: x[0] + x[1],
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Dropout": lambda x, a: x[0],
    "Flatten": lambda x, a: x[0].flatten(a.get("axis", 1)),
    "Gemm": _gemm,
    "Identity": lambda x, a: x[0],
    "MatMul": lambda x, a: x[0] @ x[1],
    "PRelu": _prelu,
    "Relu": lambda x, a: x[0].relu(),
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
}
