"""INT8 whose groups keep only some of their bit columns."""

from hwsim.formats.catalog.elements import INTS
from hwsim.formats.catalog.integer import INT8_ROW
from hwsim.formats.families.binary_pruned import BinaryPrunedSpec, Strategy

_PRUNED: tuple[tuple[str, int, Strategy, str], ...] = (
    ("cons", 2, "rounded_average", "rounded averaging"),
    ("mod", 4, "zero_point_shift", "zero-point shifting"),
)

BBS = tuple(
    BinaryPrunedSpec(
        name=f"bbs_{name}_g{group}",
        base=INT8_ROW,
        element=next(spec for spec in INTS if spec.name == f"int{8 - pruned}"),
        block_size=group,
        strategy=strategy,
        activation="int8",
        source=f"BBS (Y. Chen et al., MICRO 2024, arXiv 2409.05227), section III-B: {pruned} bit columns pruned by "
        f"{words} in groups of {group}, 2 + 6 bits a group; ties, and redundant columns counted in two's complement "
        "for both, are choices here, channels left whole are other rows in format int8",
        generator="bbs",
    )
    for name, pruned, strategy, words in _PRUNED
    for group in (16, 32)
)
