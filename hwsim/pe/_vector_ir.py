# mypy: ignore-errors
# llvmlite has no types.
"""Pieces of LLVM code with vectors, for the intrinsics of Numba kernels that keep a tile of sums in registers.

Vectors are as wide as the widest registers; where a processor has narrower ones, LLVM takes several.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

INT16, INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()


def pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any, pointee: ir.Type) -> ir.Value:
    """Return the address of element `at` of an array, as that of a vector or of a wider number."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), pointee.as_pointer())


def load(builder: Any, address: ir.Value, index: ir.Value | int) -> ir.Value:
    """Load a number or a vector, which need not be aligned as a whole."""
    found = builder.load(builder.gep(address, [index if isinstance(index, ir.Value) else INT64(index)]))
    found.align = 2
    return found


def store(builder: Any, value: ir.Value, address: ir.Value, index: int) -> None:
    """Store a number or a vector, which need not be aligned as a whole."""
    builder.store(value, builder.gep(address, [INT64(index)])).align = 4


def everywhere(builder: Any, value: ir.Value, lanes: int) -> ir.Value:
    """Return a vector that has a number in every place."""
    kind = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, value, INT32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes))


def fma(builder: Any, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """Return x * y + z of vectors of float or double, with one rounding each."""
    kind = x.type
    # by name: llvmlite's own fma takes no vectors
    name = f"llvm.fma.v{kind.count}{'f32' if kind.element == FLOAT else 'f64'}"
    return builder.call(
        cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name), [x, y, z]
    )


class Loop:
    """A loop over 0 to `count` - 1, at least once, that carries values; see `_pair_kernels` for its use."""

    def __init__(self, builder: Any, count: ir.Value, start: list[ir.Value]) -> None:
        self._builder, self._count = builder, count
        before = builder.block
        self._body, self._after = builder.append_basic_block("loop"), builder.append_basic_block("loop_end")
        builder.branch(self._body)
        builder.position_at_end(self._body)
        self.index = builder.phi(INT64)
        self.index.add_incoming(INT64(0), before)
        self.carried = [builder.phi(value.type) for value in start]
        for carried, value in zip(self.carried, start, strict=True):
            carried.add_incoming(value, before)

    def end(self, results: list[ir.Value]) -> list[ir.Value]:
        """Close the body, whose results the next turn carries; return the last ones."""
        builder, following = self._builder, self._builder.add(self.index, INT64(1))
        self.index.add_incoming(following, self._body)
        for carried, result in zip(self.carried, results, strict=True):
            carried.add_incoming(result, self._body)
        builder.cbranch(builder.icmp_signed("<", following, self._count), self._body, self._after)
        builder.position_at_end(self._after)
        return results
