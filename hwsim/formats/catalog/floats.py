"""Floats that a unit multiplies as they are, under no scale."""

from hwsim.formats.catalog.elements import BFLOAT16, FLOAT8_E4M3FN, FLOAT8_E5M2, FLOAT16, FLOAT32
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.spec import FloatSpec


def multiplied(element: FloatSpec) -> BlockSpec:
    """Return the format that casts to an element, with activations of the same."""
    return BlockSpec(
        name=element.name,
        source=element.source,
        witnesses=element.witnesses,
        element=element,
        activation=element.name,
    )


MULTIPLIED = tuple(multiplied(element) for element in (FLOAT8_E4M3FN, FLOAT8_E5M2, FLOAT16, BFLOAT16, FLOAT32))
