"""Integers whose channels are grouped by magnitude under scales that are powers of two apart."""

from hwsim.formats.catalog.elements import INT4, INT8
from hwsim.formats.families.channel_groups import ChannelGroupSpec

TENDER = tuple(
    ChannelGroupSpec(
        name=f"tender_{element.name}",
        element=element,
        source="after Tender (J. Lee et al., ISCA 2024, arXiv 2406.12930): channels in groups by magnitude, scales "
        f"powers of two apart, INT{element.bits}; the thresholds, the tensor as the unit of grouping and eight groups "
        "are choices here, row chunks and channel biases are left out",
        generator="tender",
    )
    for element in (INT4, INT8)
)
