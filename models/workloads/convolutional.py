"""Convolutional networks by shape: each convolution as the matrix product that it is, image to columns."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from hwsim.arch.workload import MatMul, Workload
from hwsim.yaml_file import Strict


class Convolution(Strict):
    """A convolution: `out` pixels a side, a square `kernel`, channels `inputs` to `outputs` in `groups`.

    A fully connected layer has kernel 1 and out 1. `repeat` says how many equal layers follow each other.
    """

    name: str
    inputs: PositiveInt
    outputs: PositiveInt
    kernel: PositiveInt
    out: PositiveInt
    groups: PositiveInt = 1
    repeat: PositiveInt = 1


class Convolutional(Strict):
    """State a convolutional network: its layers with weights, in order. `batch` images are rows of one product."""

    kind: Literal["convolutional"]
    name: str
    source: str
    layers: list[Convolution]

    def expand(self, phase: str, context: int | None, batch: int) -> Workload:
        """Return the network's products for a batch of images.

        Raises
        ------
        ValueError
            When a phase or a context is asked for that images have not, or groups do not divide channels.
        """
        if phase != "prefill" or context is not None:
            raise ValueError(f"workload {self.name}: images have no context and no phase but prefill")
        return Workload(
            self.name, phase, 0, batch, tuple(self._product(each, batch) for each in self.layers), self.source
        )

    def _product(self, layer: Convolution, batch: int) -> MatMul:
        if layer.inputs % layer.groups or layer.outputs % layer.groups:
            raise ValueError(
                f"workload {self.name}, layer {layer.name}: groups must divide {layer.inputs} inputs and "
                f"{layer.outputs} outputs, not {layer.groups}"
            )
        k = layer.inputs // layer.groups * layer.kernel**2
        return MatMul(layer.name, batch * layer.out**2, layer.outputs // layer.groups, k, layer.groups, layer.repeat)
