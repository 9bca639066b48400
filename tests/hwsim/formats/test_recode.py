"""Recodings: every code of every width against textbook statements, and exactly back to its integer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import element, recode
from hwsim.formats.format import container
from hwsim.formats.recode import RECODINGS, Recoding, bitmod_values, counts, digits, integers, table, term_fields
from hwsim.formats.spec import integer_table

GENERAL = [name for name in RECODINGS if name != "bitmod_float"]
BOOTH4 = {"000": 0, "001": 1, "010": 1, "011": 2, "100": -2, "101": -1, "110": -1, "111": 0}
BOOTH8 = dict(
    zip([format(i, "04b") for i in range(16)], [0, 1, 1, 2, 2, 3, 3, 4, -4, -3, -3, -2, -2, -1, -1, 0], strict=True)
)


def all_codes(bits: int) -> np.ndarray:
    return np.arange(1 << bits).astype(container(bits))


def integer(code: int, bits: int, signed: bool) -> int:
    return code - (1 << bits) if signed and code >> (bits - 1) else code


def booth(value: int, width: int, windows: dict[str, int]) -> list[int]:
    """Read overlapping windows of the bits of two's complement, lowest first."""
    step = len(next(iter(windows))) - 1
    places = -(-width // step)
    text = format(value % (1 << (places * step)), f"0{places * step}b") + "0"
    return [windows[text[len(text) - 1 - step * (i + 1) : len(text) - step * i]] for i in range(places)]


def naf(value: int, width: int) -> list[int]:
    """Divide by two; an odd rest takes the digit that leaves a multiple of four."""
    places = []
    while value:
        digit = 2 - value % 4 if value % 2 else 0
        places.append(digit)
        value = (value - digit) // 2
    return places + [0] * (width - len(places))


def expected(name: str, value: int, bits: int, signed: bool) -> list[int]:
    width = bits if signed else bits + 1
    if name.startswith("booth"):
        return booth(value, width, BOOTH8 if name.endswith("8") else BOOTH4)
    if name == "bitmod_integer":
        return booth(value, width, BOOTH4)[::-1]
    if name in ("naf", "csd", "oneffsets_signed"):
        return naf(value, width)
    if name == "oneffsets":
        return [(1 if value > 0 else -1) * (abs(value) >> i & 1) for i in range(bits)]
    places = [value >> i & 1 for i in range(bits)]
    return [*places[:-1], -places[-1]] if signed else places


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", GENERAL)
def test_every_code_of_small_widths_has_the_textbook_digits(name: str, signed: bool) -> None:
    for bits in range(2 if signed else 1, 10):
        d, p = digits(all_codes(bits), name, bits, signed=signed)
        want = [expected(name, integer(code, bits, signed), bits, signed) for code in range(1 << bits)]
        assert d.tolist() == want
        assert d.dtype == p.dtype == np.int8
        places = [RECODINGS[name].step * i for i in range(d.shape[1])]
        assert p.tolist() == [places[::-1] if name == "bitmod_integer" else places] * (1 << bits)


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("name", GENERAL)
def test_every_code_of_every_width_comes_back_exactly(name: str, bits: int) -> None:
    codes = all_codes(bits)
    for signed in (True, False):
        want = codes.astype(np.int64)
        if signed:
            want[len(want) // 2 :] -= 1 << bits
        found = table(name, bits, signed=signed)
        np.testing.assert_array_equal(found.values, want)
        d, p = digits(codes, name, bits, signed=signed)
        np.testing.assert_array_equal(integers(d, p), want)
        np.testing.assert_array_equal((d.astype(np.int64) << p).sum(axis=-1), want)
        np.testing.assert_array_equal(counts(codes, name, bits, signed=signed), (d != 0).sum(axis=-1))
        few, where = digits(codes, name, bits, signed=signed, compact=True)
        np.testing.assert_array_equal(integers(few, where), want)
        assert few.shape[-1] == found.counts.max()
        np.testing.assert_array_equal((few != 0).sum(axis=-1), found.counts)
        assert not ((few[:, :-1] == 0) & (few[:, 1:] != 0)).any()  # the non-zero ones first
        assert not where[few == 0].any()


def test_compact_terms_keep_their_order() -> None:
    codes = np.array([0b1011_0100], np.uint8)
    d, p = digits(codes, "oneffsets", 8, signed=False, compact=True)
    assert d.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert p.tolist() == [[2, 4, 5, 7, 0, 0, 0, 0]]
    d, p = digits(codes, "bitmod_integer", 8, compact=True)  # -76 = -64 - 16 + 4, no term of bsig 0
    assert d.tolist() == [[-1, -1, 1, 0]]
    assert p.tolist() == [[6, 4, 2, 0]]


# --- published statements


def test_digits_that_papers_and_textbooks_print() -> None:
    assert table("booth_radix4", 8).digits[0b01111111].tolist() == [-1, 0, 0, 2]  # 127 = 2 * 64 - 1
    # Bit-Pragmatic section II: 5.5 = 0101.1 has the oneffsets (2, 0, -1)
    d, p = digits(np.array([0b01011], np.uint8), "oneffsets", 5, compact=True)
    assert (p[0][d[0] != 0] - 1).tolist() == [-1, 0, 2]
    # pycsd: 28 is +00-00
    assert naf(28, 6) == [0, 0, -1, 0, 0, 1]
    assert table("csd", 7).digits[28].tolist() == [0, 0, -1, 0, 0, 1, 0]
    # OEIS A007302, non-zero digits of the non-adjacent form of 0, 1, ..., 32
    published = "0 1 1 2 1 2 2 2 1 2 2 3 2 3 2 2 1 2 2 3 2 3 3 3 2 3 3 3 2 3 2 2 1"
    assert table("naf", 7).counts[:33].tolist() == [int(n) for n in published.split()]


@pytest.mark.parametrize("bits", range(2, 17))
def test_booth_has_a_digit_for_two_or_three_bits(bits: int) -> None:
    for name, step, top in (("booth_radix4", 2, 2), ("booth_radix8", 3, 4), ("bitmod_integer", 2, 2)):
        found = table(name, bits)
        assert found.terms == -(-bits // step)
        assert np.abs(found.digits).max() == (top if bits >= step else 2)
        assert table(name, bits, signed=False).terms == -(-(bits + 1) // step)
    if bits % 2 == 0:  # a window is 000 or 111 in one case of four: 3/8 of the bits are not zero digits
        assert int(table("booth_radix4", bits).counts.astype(int).sum()) == (bits // 2 << bits) * 3 // 4


@pytest.mark.parametrize("bits", range(2, 17))
def test_the_non_adjacent_form_has_no_neighbours_and_at_most_half_the_digits(bits: int) -> None:
    found = table("naf", bits)
    assert not (found.digits[:, 1:] & found.digits[:, :-1] & 1).any()
    assert found.counts.max() == (bits + 1) // 2
    assert (found.counts <= table("oneffsets", bits).counts).all()
    assert (found.counts <= table("booth_radix4", bits).counts).all()
    # n/3 + 1/9 on average, less a term that vanishes
    assert int(found.counts.astype(int).sum()) * 9 == (3 * bits + 1 << bits) - (-1) ** bits


def test_no_sum_of_signed_powers_of_two_is_shorter_than_the_non_adjacent_form() -> None:
    bits, room = 10, 1 << 13  # sums on the way may be larger than the integers
    powers = [sign << i for i in range(13) for sign in (1, -1)]
    least = np.full(2 * room + 1, 99)
    least[room], reached = 0, np.array([0])
    for count in range(1, 6):
        sums = np.unique(np.add.outer(reached, powers))
        reached = sums[(np.abs(sums) <= room) & (least[np.clip(sums, -room, room) + room] == 99)]
        least[reached + room] = count
    found = table("naf", bits)
    np.testing.assert_array_equal(found.counts, least[found.values + room])


def test_bit_serial_cycles_published_for_bitmod() -> None:
    """bitmod_sim/pe_array.py: ceil(floor(bits) / 2) cycles: INT8 4, INT6 3, FP4 2, FP3 2."""
    assert table("bitmod_integer", 8).terms == 4
    assert table("bitmod_integer", 8).positions.tolist() == [6, 4, 2, 0]
    assert table("bitmod_integer", 6).terms == 3
    assert table("bitmod_float", 4, values=bitmod_values(4, 5)).terms == 2
    assert table("bitmod_float", 3, values=bitmod_values(3, 3)).terms == 2


def test_bitmod_windows_are_those_of_its_rtl() -> None:
    """yc2367/BitMoD hardware/pe/decoder.v, module intbooth: sign, exp and man of three bits."""
    rtl = {
        0b000: "000",
        0b001: "001",
        0b010: "001",
        0b011: "011",
        0b100: "111",
        0b101: "101",
        0b110: "101",
        0b111: "000",
    }
    for window, bits in rtl.items():
        digit = booth(window >> 1, 2, BOOTH4)[0] if window % 2 == 0 else BOOTH4[format(window, "03b")]
        sign, exp, man = term_fields(np.array([digit], np.int8))
        assert f"{sign[0]}{exp[0]}{man[0]}" == bits
    # module fpcvt: fixed points of FP4 magnitudes
    assert bitmod_values(4, 8)[:8] == (0b0000, 0b0001, 0b0010, 0b0011, 0b0100, 0b0110, 0b1000, 0b1100)


@pytest.mark.parametrize(
    ("bits", "special"), [(b, s * v) for b, vs in ((3, (3, 6)), (4, (5, 8))) for v in vs for s in (1, -1)]
)
def test_two_terms_write_every_level_of_bitmod(bits: int, special: float) -> None:
    values = bitmod_values(bits, special)
    levels = {3: [0, 1, 2, 4], 4: [0, 0.5, 1, 1.5, 2, 3, 4, 6]}[bits]
    assert sorted(values) == sorted(int(2 * v) for v in [*levels, *(-v for v in levels[1:]), special])
    assert values[1 << (bits - 1)] == 2 * special  # the code of a negative zero
    codes = all_codes(bits)
    d, p = digits(codes, "bitmod_float", bits, values=values)
    assert p.tolist() == [[1, 0]] * len(codes)
    assert integers(d, p).tolist() == list(values)
    sign, exp, man = (field.astype(int) for field in term_fields(d))
    assert (exp <= 3).all()
    assert (((-1) ** sign * 2**exp * man * 2 ** p.astype(int)).sum(axis=1) == values).all()
    for row, value in zip(d.tolist(), values, strict=True):
        text = format(abs(value), "05b")  # I3 I2 I1 I0 F0
        ones = [4 - i for i, bit in enumerate(text) if bit == "1"]
        first = ones[0] if ones and ones[0] > 0 else None  # the leading one of I3 .. I0
        rest = [one for one in ones if one != first]
        want = [0 if first is None else 1 << (first - 1), 1 << rest[0] if rest else 0]
        assert [abs(x) for x in row] == want
        assert all(x * value >= 0 for x in row)


# --- outside witness and other elements


def test_csdigit_gives_the_same_digits() -> None:
    csd = pytest.importorskip("csdigit.csd")
    found = table("csd", 12)
    for value, row in zip(found.values.tolist(), found.digits.tolist(), strict=True):
        text = csd.to_csd_i(value)[::-1]
        assert row == [{"+": 1, "-": -1, "0": 0}[c] for c in text] + [0] * (12 - len(text))


@pytest.mark.parametrize("name", ["float4_e2m1fn", "int8", "uint4", "int4"])
def test_elements_whose_values_are_integers_are_recoded_alike(name: str) -> None:
    values = integer_table(element(name))
    bits = element(name).bits
    for recoding in GENERAL:
        d, p = digits(all_codes(bits), recoding, bits, values=values)
        assert integers(d, p).tolist() == list(values)
    assert table("naf", bits, values=values).counts.tolist() == [sum(map(abs, naf(v, 0))) for v in values]


@given(st.data())
@settings(max_examples=25)
def test_any_list_of_values_and_any_step_come_back(data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, 5))
    values = data.draw(st.lists(st.integers(-(1 << 23), (1 << 23) - 1), min_size=1 << bits, max_size=1 << bits))
    step = data.draw(st.integers(1, 6))
    booths = Recoding(name="x", kind="booth", step=step, source="here", highest_first=data.draw(st.booleans()))
    shape = data.draw(st.lists(st.integers(0, 4), min_size=0, max_size=3).map(tuple))
    codes = np.random.default_rng(0).integers(0, 1 << bits, shape, np.uint8)
    for recoding in (booths, "naf", "oneffsets", "twos_complement"):
        for compact in (False, True):
            d, p = digits(codes, recoding, bits, values=values, compact=compact)
            assert d.shape == p.shape
            np.testing.assert_array_equal(integers(d, p), np.array(values)[codes])
        assert np.abs(table(booths, bits, values=values).digits).max(initial=0) <= 1 << (step - 1)
        assert counts(codes, recoding, bits, values=values).shape == shape


def test_large_and_strided_arrays_and_wide_containers() -> None:
    codes = np.random.default_rng(2).integers(0, 256, (3, 30_000)).astype(np.uint8)
    for view in (codes, codes[:, ::3], codes.T, codes.astype(np.uint32)):
        d, p = digits(view, "booth_radix4", 8)
        assert d.shape == (*view.shape, 4)
        np.testing.assert_array_equal(integers(d, p), view.astype(np.uint8).view(np.int8))
        few, where = digits(view, "oneffsets", 8, compact=True)
        np.testing.assert_array_equal(integers(few, where), view.astype(np.uint8).view(np.int8))


def test_tables_are_built_once_and_cannot_be_changed() -> None:
    found = table("naf", 8)
    assert table(RECODINGS["naf"], 8) is found
    for array in (found.digits, found.positions, found.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert all(recoding.name == name and recoding.source for name, recoding in RECODINGS.items())


# --- what is refused


@pytest.mark.parametrize(
    ("recoding", "bits", "options", "words"),
    [
        ("best", 8, {}, "unknown recoding 'best'; known: booth_radix4"),
        ("naf", 17, {}, "codes of 2 to 16 bits, not 17"),
        ("naf", 1, {}, "codes of 2 to 16 bits, not 1"),
        ("naf", 0, {"signed": False}, "codes of 1 to 16 bits, not 0"),
        ("naf", 2, {"values": (1, 2, 3)}, "need 4 values below .* not 3 values up to 3"),
        ("naf", 1, {"values": (0, 1 << 24)}, "need 2 values below .* not 2 values up to 16777216"),
        ("bitmod_float", 8, {}, r"'bitmod_float' cannot write 7 \(code 7\)"),
        ("bitmod_float", 1, {"values": (0, 32)}, r"cannot write 32 \(code 1\)"),
    ],
)
def test_tables_that_cannot_be_are_refused(recoding: str, bits: int, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        table(recoding, bits, **options)
    with pytest.raises(ValueError, match=words):
        digits(np.zeros(2, np.uint8), recoding, bits, **options)


def test_other_bad_input_is_refused() -> None:
    for wrong in (np.zeros(2, np.int8), np.zeros(2, np.float32)):
        with pytest.raises(ValueError, match=f"uint64, not {wrong.dtype}"):
            digits(wrong, "naf", 8)
    for ask in (digits, counts):
        with pytest.raises(ValueError, match="code 16 does not fit 4 bits"):
            ask(np.array([15, 16], np.uint8), "naf", 4)
    d, p = digits(np.zeros((2, 2), np.uint8), "naf", 4)
    with pytest.raises(ValueError, match=r"\(2, 2, 4\) and positions \(2, 2, 3\) must be of one shape"):
        integers(d, p[..., :3])
    with pytest.raises(ValueError, match=r"positions must be 0 \.\. 31, not 0 \.\. 32"):
        integers(np.ones(2, np.int8), np.array([0, 32], np.int8))
    with pytest.raises(ValueError, match="must be integers, not float32 and int8"):
        integers(np.ones(2, np.float32), np.zeros(2, np.int8))
    with pytest.raises(ValueError, match="not a power of two"):
        term_fields(np.array([1, 3], np.int8))
    for bits, special in ((3, 5), (4, 6), (5, 8), (4, 0)):
        with pytest.raises(ValueError, match=f"not FP{bits} with {special}"):
            bitmod_values(bits, special)
    for kind, step in (("booth", 0), ("booth", 7), ("naf", 2)):
        with pytest.raises(ValueError, match=f"step must be 1 .booth: 1 to 6., not {step}"):
            Recoding(name="x", kind=kind, step=step, source="here")


def test_docstring_examples_run() -> None:
    import doctest

    assert doctest.testmod(recode).failed == 0
