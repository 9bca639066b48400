"""Transformers by shape: decoders, encoders, vision transformers, mixtures of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from hwsim.arch.workload import Attention, MatMul, Operation, Workload
from hwsim.yaml_file import Strict


class Experts(Strict):
    """A mixture: each token is sent to `chosen` of `count` feed-forward networks, after a router of one product."""

    count: PositiveInt
    chosen: PositiveInt


class Transformer(Strict):
    """State a transformer.

    Attributes
    ----------
    hidden, layers, heads, kv_heads, head_dim : int
    ffn : int
        Inner width of the feed-forward network (of one expert).
    gated : bool
        Whether it has a gate beside the up projection.
    vocabulary : int
        Rows of the LM head, which runs on every token; 0: there is none.
    causal : bool
        Whether the network decodes token by token.
    tokens : int, optional
        Tokens of a sequence where the network fixes them (patches of an image) or a length is usual; else a context
        must be given.
    experts : Experts, optional
    patch_values : int
        Values of an image patch that is projected to the hidden size; 0: tokens are looked up.
    classes : int
        Rows of a classifier on one token; 0: there is none.
    modulation : int
        Values a layer that are projected from one conditioning vector (of the hidden size) an image; 0: none.
    """

    kind: Literal["transformer"]
    name: str
    source: str
    hidden: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    ffn: PositiveInt
    gated: bool
    vocabulary: NonNegativeInt = 0
    causal: bool = False
    tokens: PositiveInt | None = None
    experts: Experts | None = None
    patch_values: NonNegativeInt = 0
    classes: NonNegativeInt = 0
    modulation: NonNegativeInt = 0

    def expand(self, phase: str, context: int | None, batch: int) -> Workload:
        """Return the network in a phase.

        Raises
        ------
        ValueError
            When it does not decode, or needs a context.
        """
        if phase == "decode" and not self.causal:
            raise ValueError(f"workload {self.name}: it does not decode token by token; take phase prefill")
        length = context if context is not None else self.tokens
        if length is None:
            raise ValueError(f"workload {self.name}: give a context, the tokens of a sequence")
        tokens = (length if phase == "prefill" else 1) * batch
        queries = length if phase == "prefill" else 1
        operations = tuple(self._operations(tokens, queries, length, batch))
        return Workload(self.name, phase, length, batch, operations, self.source)

    def _operations(self, tokens: int, queries: int, keys: int, batch: int) -> Iterator[Operation]:
        wide, kv_wide, repeat = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.layers
        if self.patch_values:
            yield MatMul("patches", tokens, self.hidden, self.patch_values)
        if self.modulation:
            yield MatMul("modulation", batch, self.modulation, self.hidden, repeat=repeat)
        yield MatMul("q_proj", tokens, wide, self.hidden, repeat=repeat)
        for name in ("k_proj", "v_proj"):
            yield MatMul(name, tokens, kv_wide, self.hidden, repeat=repeat)
        yield Attention(
            "attention", self.heads, self.kv_heads, self.head_dim, queries, keys, sequences=batch, repeat=repeat
        )
        yield MatMul("o_proj", tokens, self.hidden, wide, repeat=repeat)
        if self.experts is None:
            yield from self._feed_forward("", tokens, 1)
        else:
            yield MatMul("router", tokens, self.experts.count, self.hidden, repeat=repeat)
            for rows, groups in _routed(tokens, self.experts):
                yield from self._feed_forward(f"experts[{groups}].", rows, groups)
        if self.vocabulary:
            yield MatMul("lm_head", tokens, self.vocabulary, self.hidden)
        if self.classes:
            yield MatMul("classifier", batch, self.classes, self.hidden)

    def _feed_forward(self, prefix: str, tokens: int, groups: int) -> Iterator[Operation]:
        for name in ("gate_proj", "up_proj") if self.gated else ("up_proj",):
            yield MatMul(prefix + name, tokens, self.ffn, self.hidden, groups, self.layers)
        yield MatMul(f"{prefix}down_proj", tokens, self.hidden, self.ffn, groups, self.layers)


def _routed(tokens: int, experts: Experts) -> Iterator[tuple[int, int]]:
    """Yield (tokens an expert, experts with so many): choices are spread as evenly as they can be."""
    choices = tokens * experts.chosen
    active = min(experts.count, choices)
    low, more = divmod(choices, active)
    if more:
        yield low + 1, more
    if active > more:
        yield low, active - more
