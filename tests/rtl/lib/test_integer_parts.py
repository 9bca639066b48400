"""Adder tree, normaliser, sticky shifter and element decoder against plain integers."""

from __future__ import annotations

import random
from itertools import product

import pytest
from amaranth.hdl import Elaboratable, Module, Shape, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import element
from hwsim.formats.registry import element_names
from hwsim.formats.spec import FloatSpec, IntSpec, integer_table
from hwsim.pe._dot import AdderTree
from rtl.lib import adder_tree as adders
from rtl.lib.adder_tree import adder_tree
from rtl.lib.element_decoder import decode_element
from rtl.lib.normalise import Normalise
from rtl.lib.shift_sticky import ShiftRightSticky
from tests.rtl.harness import evaluate

pytestmark = pytest.mark.rtl


def named(terms: int) -> list[tuple[str, Shape]]:
    """Return names and shapes of terms."""
    return [(f"term_{index}", signed(5) if index % 3 else unsigned(4)) for index in range(terms)]


class Tree(wiring.Component):
    """An adder tree over terms of mixed widths and signs, as an expression, or of a kind and after some levels."""

    def __init__(self, terms: int, kind: AdderTree | None = None, levels: int = 0, bits: int = 16) -> None:
        self.kind, self.levels, self.bits = kind, levels, bits
        self.terms = named(terms)
        super().__init__({name: In(shape) for name, shape in self.terms} | {"total": Out(signed(bits))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        terms = [getattr(self, name) for name, _ in self.terms]
        if self.kind is None:
            m.d.comb += self.total.eq(adder_tree(terms))
            return m
        tree = adders.Tree(m, self.kind, signed(self.bits), "tree")
        rows = tree.reduced(terms, self.levels)
        m.d.comb += self.total.eq(tree.total(rows))
        return m


class Decoder(wiring.Component):
    """A decoder with a wide output."""

    def __init__(self, integers: tuple[int, ...], bits: int) -> None:
        self.integers = integers
        super().__init__({"code": In(bits), "integer": Out(signed(64))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.integer.eq(decode_element(m, self.code, self.integers, "decoded"))
        return m


@pytest.mark.parametrize("terms", [1, 2, 3, 8, 13])
def test_adder_tree_is_exact(terms: int) -> None:
    tree = Tree(terms)
    rng = random.Random(terms)
    spans = {name: (-16, 15) if shape.signed else (0, 15) for name, shape in tree.terms}
    vectors = [{name: span[end] for name, span in spans.items()} for end in (0, 1)]
    vectors += [{name: rng.randint(*span) for name, span in spans.items()} for _ in range(500)]
    results = evaluate(tree, vectors)
    assert [result["total"] for result in results] == [sum(vector.values()) for vector in vectors]


@pytest.mark.parametrize("kind", ["binary", "carry_save"])
@pytest.mark.parametrize("terms", [1, 2, 3, 4, 5, 8, 13, 32])
def test_trees_of_both_kinds_are_exact_from_any_level_on(terms: int, kind: AdderTree) -> None:
    bits = 5 + (terms - 1).bit_length()  # just as many as the sum takes
    levels = adders.levels(kind, terms)
    assert (levels == (terms - 1).bit_length()) if kind == "binary" else terms != 32 or levels == 9
    rng = random.Random(terms)
    spans = {name: (-16, 15) if shape.signed else (0, 15) for name, shape in named(terms)}
    vectors = [{name: span[end] for name, span in spans.items()} for end in (0, 1)]
    vectors += [{name: rng.randint(*span) for name, span in spans.items()} for _ in range(200)]
    for first in {0, 1, levels // 2, levels}:
        results = evaluate(Tree(terms, kind, first, bits), vectors)
        assert [result["total"] for result in results] == [sum(vector.values()) for vector in vectors], first


@pytest.mark.parametrize("kind", ["binary", "carry_save"])
def test_all_sums_of_three_small_terms(kind: AdderTree) -> None:
    tree = Tree(3, kind, 1, 7)
    spans = [range(-16, 16) if shape.signed else range(16) for _, shape in tree.terms]
    every = list(product(*spans))
    results = evaluate(tree, [dict(zip((name for name, _ in tree.terms), values, strict=True)) for values in every])
    assert [result["total"] for result in results] == [sum(values) for values in every]


def test_adder_tree_needs_a_term() -> None:
    with pytest.raises(ValueError, match="at least one"):
        adder_tree([])


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 11])
def test_normalise_all_words(width: int) -> None:
    words = range(1 << width)
    results = evaluate(Normalise(width), [{"value": word} for word in words])
    for word, result in zip(words, results, strict=True):
        count = width - word.bit_length()
        assert result == {"count": count, "normalised": word << count & (1 << width) - 1}, word


@pytest.mark.parametrize(("width", "max_amount"), [(2, 1), (5, 3), (6, 6), (7, 40)])
def test_shift_sticky_all_words_and_amounts(width: int, max_amount: int) -> None:
    vectors = [{"value": word, "amount": amount} for word in range(1 << width) for amount in range(max_amount + 1)]
    results = evaluate(ShiftRightSticky(width, max_amount), vectors)
    for vector, result in zip(vectors, results, strict=True):
        word, amount = vector["value"], vector["amount"]
        assert result["shifted"] == word >> amount | bool(word & (1 << amount) - 1), vector


def integer_elements() -> list[str]:
    """Return the elements that an integer datapath can take: small enough for a table, and finite throughout."""
    facts = {name: element(name) for name in element_names() if element(name).bits <= 8}
    return [
        name
        for name, spec in facts.items()
        if isinstance(spec, IntSpec) or (isinstance(spec, FloatSpec) and spec.special == "none")
    ]


@pytest.mark.parametrize("name", integer_elements())
def test_element_decoder_all_codes(name: str) -> None:
    spec = element(name)
    decoder = Decoder(integer_table(spec), spec.bits)
    results = evaluate(decoder, [{"code": code} for code in range(1 << spec.bits)])
    assert [result["integer"] for result in results] == [
        spec.value(code) * (1 << spec.frac_bits) for code in range(1 << spec.bits)
    ]


@pytest.mark.usefixtures("refused_parts")
def test_element_decoder_refuses_a_short_table() -> None:
    decoder = Decoder((0, 1, 2), 2)
    with pytest.raises(ValueError, match="4 integers, not 3"):
        decoder.elaborate(None)
