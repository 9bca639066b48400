"""The systolic array against unit and timing model: results, and its own cycle counter, on many shapes a build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim.pe import unit
from rtl.array.systolic import SystolicArray
from rtl.sim.array import Gemm, cosim_array
from tests.rtl.operands import draw_dot

pytestmark = pytest.mark.rtl

# unit, its parameters, (rows, cols, buffer beats), and (M, N, beats of K): tiny, exact, ragged, several K tiles
BUILDS = {
    "mx_3x2": (
        "mx_dot",
        {"lanes": 2, "block": 4},
        (3, 2, 8),
        [(1, 1, 2), (3, 2, 8), (3, 2, 16), (4, 3, 10), (7, 5, 18), (2, 6, 24), (6, 1, 6), (1, 4, 26), (5, 5, 8)],
    ),
    "int8_2x3": (
        "int_mac",
        {"lanes": 2},
        (2, 3, 5),
        [(1, 1, 1), (2, 3, 5), (2, 3, 6), (5, 7, 11), (3, 4, 14), (1, 7, 4), (4, 1, 16), (4, 6, 10)],
    ),
    "nvfp4_1x1": (  # a deep buffer under a small array: the load after a short last K tile shows
        "mx_dot",
        {"lanes": 1, "block": 1, "scale": "float8_e4m3fn", "out_scale": True},
        (1, 1, 24),
        [(1, 1, 1), (2, 2, 24), (2, 2, 25), (1, 3, 26), (3, 1, 49), (2, 1, 71)],
    ),
    "int4_asym_1x4": (
        "int_mac",
        {"weight": "uint4", "lanes": 1, "block": 2, "zero_point": True},
        (1, 4, 1),
        [(1, 1, 2), (2, 4, 4), (1, 9, 6), (3, 3, 8), (2, 5, 2)],
    ),
    "int8_4x1": ("int_mac", {"lanes": 1}, (4, 1, 2), [(1, 1, 1), (4, 1, 2), (9, 2, 3), (3, 3, 7), (5, 1, 4)]),
}


def draw_gemm(unit_name: str, params: object, shape: tuple[int, int, int], generator: np.random.Generator) -> Gemm:
    """Return a random product with its results from the unit's reference."""
    m, n, k_beats = shape
    model, spec = unit(unit_name), params.datapath
    a_rows = [draw_dot(spec, k_beats, "plain", generator) for _ in range(m)]
    b_cols = [draw_dot(spec, k_beats, "plain", generator) for _ in range(n)]
    expected = [
        [
            model.reference(a | {name: values for name, values in b.items() if name.startswith("b")}, params)
            for b in b_cols
        ]
        for a in a_rows
    ]
    return Gemm(a_rows, b_cols, np.array(expected, np.uint32))


@pytest.mark.parametrize("name", BUILDS)
def test_array_equals_unit_and_timing_model(name: str) -> None:
    unit_name, fields, size, shapes = BUILDS[name]
    params = unit(unit_name).Params(**fields)
    generator = np.random.default_rng(len(name))
    gemms = [draw_gemm(unit_name, params, shape, generator) for shape in shapes]
    for result in cosim_array(params, *size, gemms, seed=2):
        assert result.ok, result


def test_there_are_enough_shapes() -> None:
    assert sum(len(build[3]) for build in BUILDS.values()) >= 25


def test_a_wrong_result_is_found_and_leaves_a_waveform(tmp_path: Path) -> None:
    unit_name, fields, size, _ = BUILDS["int8_2x3"]
    params = unit(unit_name).Params(**fields)
    gemm = draw_gemm(unit_name, params, (3, 4, 6), np.random.default_rng(1))
    gemm.expected[2, 3] ^= 1
    result = cosim_array(params, *size, [gemm], waveform_dir=tmp_path)[0]
    assert not result.ok
    assert result.mismatches == 2
    assert result.waveform.stat().st_size > 1000


@pytest.mark.usefixtures("refused_parts")
@pytest.mark.parametrize("size", [(0, 1, 1), (1, -1, 1), (1, 1, 2.0)])
def test_an_impossible_size_is_refused(size: tuple) -> None:
    with pytest.raises(ValueError, match="must be a positive integer"):
        SystolicArray(unit("mx_dot").Params(), *size)
