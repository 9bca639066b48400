"""Recurrent and state-space networks by shape: products that every step or every token repeats."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from hwsim.arch.workload import MatMul, Workload
from hwsim.yaml_file import Strict


class Product(Strict):
    """A matrix of `outputs` x `inputs`, in `layers` layers; `head`: only once, behind them."""

    name: str
    inputs: PositiveInt
    outputs: PositiveInt


class Recurrent(Strict):
    """State a network whose layers are products for each token.

    Attributes
    ----------
    layers : int
        Equal layers.
    products : list of Product
        Of one layer.
    head : list of Product
        Once, behind the layers.
    steps : {"one_by_one", "together"}
        Whether a token needs the one before it (recurrent weights: each token is a product of its own), or all tokens
        of a context can be one product (state-space models, whose scan is no matrix product and is left out).
    tokens : int, optional
        Usual length of a sequence; else a context must be given.
    """

    kind: Literal["recurrent"]
    name: str
    source: str
    layers: PositiveInt
    products: list[Product]
    head: list[Product] = []  # noqa: RUF012 - pydantic copies it
    steps: Literal["one_by_one", "together"]
    tokens: PositiveInt | None = None

    def expand(self, phase: str, context: int | None, batch: int) -> Workload:
        """Return the network in a phase.

        Raises
        ------
        ValueError
            When a context is needed.
        """
        length = context if context is not None else self.tokens
        if length is None:
            raise ValueError(f"workload {self.name}: give a context, the tokens of a sequence")
        tokens = length if phase == "prefill" else 1
        rows, times = (batch, tokens) if self.steps == "one_by_one" else (batch * tokens, 1)
        operations = [
            MatMul(each.name, rows, each.outputs, each.inputs, repeat=self.layers * times) for each in self.products
        ]
        operations += [MatMul(each.name, rows, each.outputs, each.inputs, repeat=times) for each in self.head]
        return Workload(self.name, phase, length, batch, tuple(operations), self.source)
