"""What a machine is given to do: matrix products and attention, by shape alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


def _check(what: str, **counts: int) -> None:
    for field, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{what}: {field} must be a positive integer, not {value!r}")


@dataclass(frozen=True)
class MatMul:
    """State products C[M, N] = A[M, K] B[N, K]^T with stored weights B.

    Parameters
    ----------
    name : str
        Name of the layer.
    m, n, k : int
        Rows of A (tokens, or pixels), rows of B (outputs), and length of the dot products.
    groups : int
        Products of this shape side by side, each with operands of its own (grouped convolutions, experts).
    repeat : int
        Equal layers one after the other.

    Raises
    ------
    ValueError
        When a number is no positive integer.
    """

    name: str
    m: int
    n: int
    k: int
    groups: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        _check(f"layer {self.name!r}", m=self.m, n=self.n, k=self.k, groups=self.groups, repeat=self.repeat)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all groups and repeats."""
        return prod((self.m, self.n, self.k, self.groups, self.repeat))


@dataclass(frozen=True)
class Attention:
    """State scaled dot-product attention: queries times keys, softmax, times values.

    Parameters
    ----------
    name : str
        Name of the layer.
    heads, kv_heads : int
        Query heads, and heads of keys and values; the first is a multiple of the second.
    head_dim : int
        Length of a query, of a key and of a value.
    queries, keys : int
        Of one sequence: tokens that ask, and tokens that are looked at. A causal mask is not used to skip products.
    sequences : int
        Sequences side by side.
    repeat : int
        Equal layers one after the other.

    Raises
    ------
    ValueError
        When a number is no positive integer, or `kv_heads` does not divide `heads`.
    """

    name: str
    heads: int
    kv_heads: int
    head_dim: int
    queries: int
    keys: int
    sequences: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        _check(
            f"layer {self.name!r}", heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim,
            queries=self.queries, keys=self.keys, sequences=self.sequences, repeat=self.repeat,
        )  # fmt: skip
        if self.heads % self.kv_heads:
            raise ValueError(f"layer {self.name!r}: kv_heads must divide heads = {self.heads}, not {self.kv_heads}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of both products, of all sequences and repeats."""
        return 2 * prod((self.heads, self.head_dim, self.queries, self.keys, self.sequences, self.repeat))


Operation = MatMul | Attention


@dataclass(frozen=True)
class Workload:
    """A network in one phase.

    Parameters
    ----------
    name : str
    phase : str
        ``prefill`` (all tokens of the context at once) or ``decode`` (one token a sequence, after the context).
    context : int
        Tokens of a sequence; 0 for networks that have none.
    batch : int
        Sequences, or images.
    operations : tuple of MatMul and Attention
        In order.
    source : str
        Where the shapes are published.
    """

    name: str
    phase: str
    context: int
    batch: int
    operations: tuple[Operation, ...]
    source: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operations."""
        return sum(operation.macs for operation in self.operations)


__all__ = ["Attention", "MatMul", "Operation", "Workload"]
