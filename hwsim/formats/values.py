"""Value of every code of an element, as an array."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.spec import ElementSpec, FloatSpec, TableSpec


@cache
def element_values(spec: ElementSpec) -> NDArray[np.float64]:
    """Return the value of every code of an element of at most 16 bits, float64 [2**bits], exactly.

    NaN codes, and codes that a table does not use, are NaN; Inf codes are +-Inf; the sign of a zero code is kept.

    Raises
    ------
    ValueError
        When the codes have more than 16 bits.
    """
    if spec.bits > 16:
        raise ValueError(f"element {spec.name}: a table of {spec.bits}-bit codes is too large (allowed: 16 bits)")
    exact = [spec.value(code) for code in range(1 << spec.bits)]
    values = np.array([np.nan if value is None else float(value) for value in exact])
    negative = np.arange(len(values)) >> (spec.bits - 1) == 1
    if isinstance(spec, FloatSpec):
        for code in np.flatnonzero(np.isnan(values)):
            if sign := spec.infinite(int(code)):
                values[code] = sign * np.inf
    if (isinstance(spec, FloatSpec) and spec.signed) or (isinstance(spec, TableSpec) and spec.symmetric):
        values[negative & (values == 0)] = -0.0
    values.setflags(write=False)
    return values
