"""Complex formats of the four units."""

from hwsim.formats.families.complex_unit import ComplexUnitSpec

FAIRY_PM1_PMI = ComplexUnitSpec(
    name="fairy_pm1_pmi",
    source="Fairy+-i (arXiv 2508.05571), section 3.2, phase-aware quantisation; "
    "PKU-LLM-DS-LAB/Fairy-plus-minus-i:model/modeling_*.py: scales of the whole tensor, at least 1e-5",
    witnesses=("torch",),
    generator="fairy",
)
