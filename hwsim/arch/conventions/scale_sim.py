"""SCALE-Sim's count of compute cycles: folds over a systolic array, one after the other.

A fold streams T values through R x C elements: ``T + R + C - 2`` cycles output-stationary, ``2 R + C + T - 2`` with
weights or inputs stationary. ``os``: rows take M, columns N, T = K; ``ws``: K, N, T = M; ``is``: K, M, T = N. Folds do
not overlap, and the reported total is ``folds * cycles of a fold - 1``. Memory is taken to keep up.

Our own arrays are timed by their RTL (`hwsim.arch.systolic_timing`); this rule is here to compare with.

Source: SCALE-Sim v3, github.com/scalesim-project/SCALE-Sim at 1d62b68, from the shapes of its demand matrices.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Literal

from pydantic import PositiveInt

from hwsim.arch.conventions import LayerTiming, Options, Published
from hwsim.arch.memory import ceil_div
from hwsim.arch.workload import MatMul, Workload
from hwsim.yaml_file import Strict

NAME = "scale_sim"


class Array(Strict):
    """Elements, and which operand stays in them."""

    rows: PositiveInt
    cols: PositiveInt
    dataflow: Literal["os", "ws", "is"]


class MachineSpec(Published):
    """A machine file with ``timing: scale_sim``."""

    timing: Literal["scale_sim"]
    array: Array


def simulate(workload: Workload, spec: MachineSpec, options: Options) -> tuple[LayerTiming, ...]:
    """Return the matrix products of a workload, timed.

    Raises
    ------
    ValueError
        When the workload has attention, which the rule does not cover.
    """
    options.refuse("attention", "weight_bits")
    return tuple(_layer(operation, spec.array) for operation in workload.operations)


def _layer(operation: object, array: Array) -> LayerTiming:
    if not isinstance(operation, MatMul):
        raise ValueError("attention is not covered by this rule, only matrix products with weights")
    m, n, k, rows, cols = operation.m, operation.n, operation.k, array.rows, array.cols
    spread_rows, spread_cols, streamed = {"os": (m, n, k), "ws": (k, n, m), "is": (k, m, n)}[array.dataflow]
    fold = streamed + rows + cols - 2 + (0 if array.dataflow == "os" else rows)
    folds = ceil_div(spread_rows, rows) * ceil_div(spread_cols, cols)
    cycles = (folds * fold - 1) * operation.groups * operation.repeat
    peak = Fraction(rows * cols)
    least = ceil(operation.macs / peak)
    return LayerTiming(operation.name, operation.repeat, operation.macs, cycles, 0, cycles, 0, least, peak)
