"""Every pair of element codes through a unit: the whole truth about its multipliers, at the bulk engine's speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from hwsim.formats import element, element_values
from hwsim.pe._dot import DotSpec
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.run import CosimResult

_FLOAT32_ONE = 0x3F800000


def check_all_pairs(
    unit_name: str,
    params: Any,
    *,
    stalls: bool = False,
    waveform_dir: Path | None = None,
    hardware: wiring.Component | None = None,
) -> CosimResult:
    """Multiply every code of A with every code of B in every lane, one product a dot product.

    Parameters as for :class:`rtl.sim.bulk_cosim.BulkCosim`. What is expected does not come from the unit's model: it is
    the product of the two codes' values.
    """
    bulk = BulkCosim(unit_name, params, stalls=stalls, waveform_dir=waveform_dir, hardware=hardware)
    for beats, expected in all_pairs(params.datapath):
        bulk.check(beats, expected)
    return bulk.total


def all_pairs(spec: DotSpec) -> Iterator[tuple[dict[str, NDArray[np.integer]], NDArray[np.uint32]]]:
    """Yield for each lane the beats and the float32 bits of all pairs, A's code counting slowest.

    Other lanes and other beats of the block hold zeros; scales are one and zero points zero.

    Exactness
    ---------
    A single product has at most 22 significant bits: exact in float64 and, of elements of 8 bits, in float32. A zero
    product is +0; NaN and Inf follow IEEE 754.
    """
    beats_a_dot = spec.block_beats or 1
    a_codes, b_codes = (
        grid.reshape(-1)
        for grid in np.meshgrid(np.arange(len(spec.a_ints)), np.arange(len(spec.b_ints)), indexing="ij")
    )
    count = len(a_codes) * beats_a_dot
    with np.errstate(invalid="ignore"):
        products = (
            element_values(element(spec.a_element))[a_codes] * element_values(element(spec.b_element))[b_codes] + 0.0
        )
    products[np.isnan(products)] = np.nan  # the canonical one
    expected = products.astype(np.float32).view(np.uint32)
    for lane in range(spec.lanes):
        beats: dict[str, NDArray[np.integer]] = {}
        for name, bits, fields in spec.layout():
            if name in ("a", "b"):
                table = spec.a_ints if name == "a" else spec.b_ints
                beats[name] = np.full((count, fields), table.index(0), np.uint8 if bits <= 8 else np.int64)
            else:
                beats[name] = np.full(count, _neutral(spec, name), np.int64)
        beats["a"][::beats_a_dot, lane], beats["b"][::beats_a_dot, lane] = a_codes, b_codes
        beats["last"] = (np.arange(count) % beats_a_dot == beats_a_dot - 1).astype(np.uint8)
        yield beats, expected


def _neutral(spec: DotSpec, name: str) -> int:
    """Return the code with which a scale multiplies by one, or a zero point takes nothing off."""
    if name.endswith("_out"):
        return _FLOAT32_ONE
    scale = {"a_scale": spec.a_scale, "b_scale": spec.b_scale}.get(name)
    if scale is None:
        return 0
    facts = element(scale)
    return next(code for code in range(1 << facts.bits) if facts.value(code) == 1)
