"""Outlier-victim pairs (OliVe): by exact rationals, plain floats in the stated order, PyTorch, and all 256 pairs."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import decode, encode
from hwsim.formats.families.olive import OliveSpec
from tests.hwsim.formats import oracle


def olive(name: str) -> OliveSpec:
    fmt = formats.get(name)
    assert isinstance(fmt, OliveSpec)
    return fmt


INT4, FLINT4 = olive("olive_int4"), olive("olive_flint4")
FLOAT16 = formats.element("float16")
FORMATS = {
    "int4": INT4,
    "flint4": FLINT4,
    "int4_search": INT4.with_rules(percents=(75, 99, 100, 101, 150, 249)),
    "flint4_search": FLINT4.with_rules(percents=(249, 75, 130)),
    "int4_tensor": INT4.with_rules(scope="tensor", percents=(80, 120)),
    "int4_amax": INT4.with_rules(reach="amax", percents=(50,)),
    "flint4_half": FLINT4.with_rules(scale=FLOAT16, sigmas=2.5),
    "int4_e1m2": INT4.with_rules(exp_bits=1, exp_base=4),
    "int4_e3": INT4.with_rules(exp_bits=3, exp_base=2),
}
KINDS = ("random", "outliers", "both", "mixed", "subnormal", "huge", "zeros", "constant")
# quant_modules.py int_value, flint_value and outlier_value, in its units
PUBLISHED_INT = {0, 4, 8, 12, 16, 20, 24, 28}
PUBLISHED_FLINT = {0, 2, 4, 6, 8, 12, 16, 32}
PUBLISHED_OUTLIERS = [48, 64, 96, 128, 192, 256, 384]


def make(kind: str, shape: tuple[int, int] = (4, 40)) -> np.ndarray:
    rng = np.random.default_rng([KINDS.index(kind)])
    x = rng.normal(size=shape)
    if kind == "outliers":
        x[rng.random(shape) < 0.1] *= 12
    elif kind == "both":  # pairs of outliers of either sign, next to each other
        x *= 0.1
        x[:, 4:8] = rng.choice([-9.0, 7.0, 30.0], (shape[0], 4))
    elif kind == "mixed":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-3, 4, shape).astype(float), -149)
    elif kind == "huge":
        x = rng.choice([3.4028234663852886e38, -3.4028234663852886e38, 1.0, 3e30], shape)
        x[0] = 3.4028234663852886e38 * (-1.0) ** np.arange(shape[1])
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[1, 3], x[2, 17], x[3, 20:] = 1e-30, -2.5, 3.0
    elif kind == "constant":
        x = np.repeat(rng.normal(size=(shape[0], 1)), shape[1], axis=1)
    return x.astype(np.float32)


def abfloat(fmt: OliveSpec, code: int) -> int | None:
    """Return the level of an outlier code: sign, exponent and mantissa fields; the smallest is not used."""
    man = 3 - fmt.exp_bits
    exponent, mantissa = (code & 7) >> man, (code & 7) & ((1 << man) - 1)
    if exponent == mantissa == 0:
        return None
    level = Fraction(2) ** (fmt.exp_base + exponent) * (1 + Fraction(mantissa, 1 << man))
    return int(level) * (-1 if code & 8 else 1)


def normal(fmt: OliveSpec, code: int) -> int | None:
    if fmt.name.startswith("olive_int4"):
        return None if code == 8 else code - 16 * (code > 8)
    return [0, 1, 2, 3, 16, 8, 4, 6][code & 7] * (-1 if code & 8 else 1) if code != 8 else None


def grid(fmt: OliveSpec) -> list[tuple[int, bool, int]]:
    """Return (level, is it an outlier, code) in the order of the published list: normals, then outliers, ascending."""
    first = [(level, False, code) for code in range(16) if (level := normal(fmt, code)) is not None]
    second = [(level, True, code) for code in range(16) if (level := abfloat(fmt, code)) is not None]
    return sorted(first) + sorted(second)


def nearest(levels: list[tuple[int, bool, int]], point: Fraction) -> tuple[int, bool, int]:
    """Return the last of the nearest levels of the list."""
    best = levels[0]
    for level in levels:
        if abs(level[0] - point) <= abs(best[0] - point):
            best = level
    return best


def pairs(
    levels: list[tuple[int, bool, int]], exact: list[Fraction], step: Fraction
) -> tuple[list[int], list[Fraction]]:
    """Return the codes and values of a row under a step."""
    codes, values = [], []
    for i in range(0, len(exact), 2):
        even, odd = (nearest(levels, v / step) if step else (0, False, 0) for v in exact[i : i + 2])
        if even[1]:
            codes += [even[2], 8]
            values += [even[0] * step, Fraction(0)]
        elif odd[1]:
            codes += [8, odd[2]]
            values += [Fraction(0), odd[0] * step]
        else:
            codes += [even[2], odd[2]]
            values += [even[0] * step, odd[0] * step]
    return codes, values


def positive_code(fmt: OliveSpec, exact: Fraction) -> tuple[int, Fraction]:
    man, bias = fmt.scale.man_bits, fmt.scale.bias
    quantum = oracle.power(max(oracle.floor_log2(exact), 1 - bias) - man)
    code = (oracle.floor_log2(quantum) + man + bias - 1 << man) + oracle.half_even(exact / quantum)
    code = min(max(code, 1), (2 * bias + 1 << man) - 1)
    field, mantissa = code >> man, code & ((1 << man) - 1)
    return code, (mantissa + (1 << man) * (field > 0)) * oracle.power(max(field, 1) - bias - man)


def encoded_row(fmt: OliveSpec, row: np.ndarray) -> tuple[int, list[int], list[Fraction]]:
    """Return (scale code, codes, values) of what shares a scale."""
    levels, numbers = grid(fmt), [float(v) for v in row]
    exact = [Fraction(v) for v in numbers]
    if not any(numbers):
        return 0, *pairs(levels, exact, Fraction(0))
    reach = max(map(abs, numbers))
    if fmt.reach == "sigma":
        total, squares = 0.0, 0.0
        for v in numbers:
            total += v
        mean = total / len(numbers)
        for v in numbers:
            squares += (v - mean) * (v - mean)
        width = fmt.sigmas * math.sqrt(squares / (len(numbers) - 1))
        reach = max(abs(mean + width), abs(mean - width))
    top, best = max(level for level, outlier, _ in levels if not outlier), None
    for percent in fmt.percents:
        code, step = positive_code(fmt, Fraction(reach * percent / (100.0 * top)))
        codes, values = pairs(levels, exact, step)
        error = 0.0
        for v, y in zip(exact, values, strict=True):
            rest = float(v - y)
            error += rest * rest
        if best is None or error < best[0]:
            best = (error, code, codes, values)
    assert best is not None
    return best[1:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_encode_and_decode_equal_exact_rationals(name: str, kind: str) -> None:
    fmt, x = FORMATS[name], make(kind)
    encoded = encode(x, fmt)
    values = decode(encoded)
    if fmt.scope == "tensor":
        scale, codes, wanted = encoded_row(fmt, x.reshape(-1))
        assert encoded.scales == scale and encoded.scales.shape == ()
        assert encoded.codes.reshape(-1).tolist() == codes
        assert values.reshape(-1).view(np.uint32).tolist() == [oracle.float32_bits(v) for v in wanted]
        return
    for row in range(len(x)):
        scale, codes, wanted = encoded_row(fmt, x[row])
        assert encoded.scales[row] == scale
        assert encoded.codes[row].tolist() == codes
        assert values[row].view(np.uint32).tolist() == [oracle.float32_bits(v) for v in wanted]


def unit_scale(fmt: OliveSpec) -> tuple[OliveSpec, float]:
    """Return the same format under amax alone, and the largest value that makes its scale exactly one."""
    return fmt.with_rules(reach="amax", percents=(5,)), fmt.normal.max_value * 20


@pytest.mark.parametrize("fmt", [INT4, FLINT4], ids=lambda f: f.name)
def test_all_256_pairs_decode(fmt: OliveSpec) -> None:
    """225 pairs of normal values, 14 outliers on either side of a victim, and three pairs that mean nothing."""
    one = np.array([0x3F800000], np.uint32)
    kinds, known = {"normal": 0, "outlier": 0, "nothing": 0}, []
    for even in range(16):
        for odd in range(16):
            want, kind = (normal(fmt, even), normal(fmt, odd)), "normal"
            if odd == 8:
                want, kind = (abfloat(fmt, even), 0), "outlier"
            elif even == 8:
                want, kind = (0, abfloat(fmt, odd)), "outlier"
            if None in want:
                encoded = formats.Encoded.of(fmt, codes=np.array([[even, odd]], np.uint8), scales=one)
                kinds["nothing"] += 1
                assert fmt.pair(even, odd) is None
                with pytest.raises(ValueError, match=r"row 0 holds a pair .* identifier \(0x8\)"):
                    decode(encoded)
                continue
            kinds[kind] += 1
            assert fmt.pair(even, odd) == want
            known.append(((even, odd), want))
    assert kinds == {"normal": 225, "outlier": 28, "nothing": 3}
    codes, values = [c for codes, _ in known for c in codes], [v for _, pair in known for v in pair]
    assert decode(formats.Encoded.of(fmt, codes=np.array([codes], np.uint8), scales=one)).tolist() == [values]
    # what a pair decodes to is encoded to it again
    same, top = unit_scale(fmt)
    x = np.array([[*values, 0, top]], np.float32)
    encoded = encode(x, same)
    assert encoded.scales.tolist() == one.tolist()
    assert encoded.codes[0, :-2].tolist() == codes


def test_levels_are_those_that_were_published() -> None:
    for fmt, unit, normals in ((INT4, 4, PUBLISHED_INT), (FLINT4, 2, PUBLISHED_FLINT)):
        assert {abs(level) * unit for level, _ in fmt.normal.ranked} == normals
        outliers = [fmt.outlier(code) for code in range(1, 8)]
        assert [level * unit for level in outliers] == PUBLISHED_OUTLIERS
        assert [fmt.outlier(code) for code in range(9, 16)] == [-level for level in outliers]
        assert fmt.outlier(0) is None and fmt.outlier(8) is None
        assert fmt.max_value * unit == 384 and fmt.min_step == 1
    # the paper: INT4 outliers are {12, 16, 24, 32, 48, 64, 96}
    assert [INT4.outlier(code) for code in range(1, 8)] == [12, 16, 24, 32, 48, 64, 96]


@pytest.mark.parametrize("fmt", [INT4, FLINT4], ids=lambda f: f.name)
def test_every_border_and_its_neighbours(fmt: OliveSpec) -> None:
    """Half-way points go to the outlier before the normal level, else up, under a scale of one."""
    levels = sorted(grid(fmt))
    points = []
    for (low, _, _), (high, _, _) in pairwise(levels):
        middle = np.float32((low + high) / 2)
        points += [np.nextafter(middle, np.float32(-1e9)), middle, np.nextafter(middle, np.float32(1e9))]
    same, top = unit_scale(fmt)
    for place in (0, 1):
        x = np.zeros((1, 2 * len(points) + 2), np.float32)
        x[0, place : 2 * len(points) : 2] = points
        x[0, -1] = top
        encoded = encode(x, same)
        assert encoded.scales.tolist() == [0x3F800000]
        assert encoded.codes[0].tolist() == pairs(grid(fmt), [Fraction(float(v)) for v in x[0]], Fraction(1))[0]
    # the border of normal levels and outliers, on either side of zero
    border = (fmt.normal.max_value + float(fmt.outlier(1) or 0)) / 2
    x = np.array([[border, 0, -border, 0, 0, top]], np.float32)
    assert encode(x, same).codes[0, :4].tolist() == [1, 8, 9, 8]


def test_of_two_outliers_the_even_one_stays_and_a_victim_is_zero() -> None:
    x = np.zeros((1, 64), np.float32)
    x[0, 0], x[0, 1] = 50, -90  # both: the even one
    x[0, 2], x[0, 3] = 1, 70  # odd outlier
    x[0, 4], x[0, 5] = -60, 2  # even outlier
    x[0, 7], x[0, 8] = 50, 50  # neighbours, but not a pair
    for fmt in (INT4, FLINT4):
        encoded = encode(x, fmt.with_rules(sigmas=0.5))
        values = decode(encoded)[0]
        assert encoded.codes[0, [1, 2, 5, 6, 9]].tolist() == [8] * 5
        assert (values[[1, 2, 5, 6, 9]] == 0).all() and (values[[0, 3, 7, 8]] > 10).all() and values[4] < -10


def test_equals_the_published_steps_in_torch() -> None:
    """_forward of quant_modules.py in float64 at our scales, and its choice of a scale in float32."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(2).normal(size=(6, 64)).astype(np.float32)
    x[np.random.default_rng(3).random(x.shape) < 0.02] *= 10
    w = torch.from_numpy(x)
    for fmt, unit in ((olive("olive_int4_search"), 4), (olive("olive_flint4_search"), 2)):
        normals = torch.tensor(sorted(level * unit for level, _ in fmt.normal.ranked), dtype=torch.float64)
        outliers = torch.tensor(sorted([*PUBLISHED_OUTLIERS, *(-v for v in PUBLISHED_OUTLIERS)]), dtype=torch.float64)
        levels = torch.cat([normals, outliers])

        def forward(w, scale, levels=levels):  # type: ignore[no-untyped-def]
            data = w.double() / scale
            distance = (data[..., None] - levels).abs()
            last = levels.numel() - 1 - distance.flip(-1).argmin(-1)  # the last of the nearest
            quant = levels[last].reshape(-1)
            mask = quant.abs() > 32
            odd = torch.roll(mask, 1, -1)
            odd[::2] = False
            even = torch.roll(mask & ~odd, -1, -1)
            even[1::2] = False
            return (quant * ~(even | odd)).reshape(w.shape) * scale

        encoded = encode(x, fmt)
        ours = torch.from_numpy(encoded.scales.view(np.float32).astype(np.float64))[:, None] / unit
        assert np.array_equal(decode(encoded), forward(w, ours).float().numpy())
        mean, deviation = w.mean(-1), w.std(-1)
        reach = torch.maximum((mean + 3 * deviation).abs(), (mean - 3 * deviation).abs())[:, None].double()
        errors = []
        for percent in range(75, 250, 2):
            errors.append(((forward(w, reach * percent * 0.01 / normals.max()) - w) ** 2).mean(-1))
        chosen = torch.stack(errors).argmin(0) * 2 + 75
        got = ours[:, 0] * normals.max() / reach[:, 0] * 100
        assert torch.equal(got.round().long(), chosen)


def test_search_takes_the_first_of_equal_errors() -> None:
    x = np.array([[7.0, -7.0, 0.0, 7.0]], np.float32)  # exact as 7 at 100 %, as 1 at 700 %
    for percents, scale in (((50, 100, 700), 1.0), ((50, 700, 100), 7.0)):
        encoded = encode(x, INT4.with_rules(reach="amax", percents=percents))
        assert encoded.scales.view(np.float32)[0] == scale
        assert np.array_equal(decode(encoded), x)


@pytest.mark.parametrize("fmt", [FORMATS["int4_search"], FLINT4], ids=lambda f: f.name[:12])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-20, 20))
def test_codes_do_not_depend_on_powers_of_two_and_a_victim_per_outlier(fmt: OliveSpec, seed: int, shift: int) -> None:
    x = np.random.default_rng(seed).standard_t(2, size=(3, 32)).astype(np.float32)
    first, scaled = encode(x, fmt), encode(np.ldexp(x, shift), fmt)
    assert np.array_equal(first.codes, scaled.codes)
    assert np.array_equal(np.ldexp(decode(first), shift), decode(scaled))
    assert not (first.codes.reshape(-1, 2) == 8).all(axis=1).any()


def test_storage_padding_axes_and_rows() -> None:
    assert INT4.bits_per_element(4096) == 4 + 32 / 4096
    x = np.random.default_rng(0).normal(size=(9, 3, 2)).astype(np.float32)
    encoded = encode(x, "olive_int4", axis=0, pad=True)
    assert encoded.padding == 1 and decode(encoded).shape == x.shape
    plain = np.ascontiguousarray(x[:8].reshape(8, 6).T)
    assert np.array_equal(encode(plain, "olive_int4").rows(slice(1, 3)).scales, encode(plain[1:3], "olive_int4").scales)
    tensor = encode(x[:8], FORMATS["int4_tensor"], axis=0)
    assert tensor.shape == (3, 2, 8) and decode(tensor).shape == (8, 3, 2)
    assert tensor.stored_bits == 48 * 4 + 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normal": formats.element("ant_pot4")}, "smallest outlier above the normal levels"),
        ({"normal": formats.element("nf4")}, "leaves code 0x8"),
        ({"normal": formats.element("bitmod_fp3_er_pos")}, "table of 4 bits"),
        ({"normal": formats.element("pot4")}, "signed table"),
        ({"scale": formats.element("float8_e8m0fnu")}, "subnormals"),
        ({"exp_bits": 0}, "exp_bits must be 1 .. 3"),
        ({"exp_bits": 4}, "exp_bits must be 1 .. 3"),
        ({"exp_base": 2}, "smallest outlier above"),
        ({"exp_base": 17}, "exp_base must be 0 .. 16"),
        ({"sigmas": -1.0}, "sigmas"),
        ({"sigmas": 0.1}, "24 significant bits"),
        ({"percents": ()}, "percents"),
        ({"percents": (100, 0)}, "percents"),
        ({"scope": "block"}, "scope must be"),
        ({"reach": "max"}, "reach must be"),
        ({"deviation": "population"}, "deviation must be"),
        ({"ties": "even"}, "ties must be"),
        ({"both_outliers": "larger"}, "both_outliers must be"),
        ({"zero_scale": "one"}, "zero_scale must be"),
    ],
)
def test_bad_rules_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        INT4.with_rules(**change)


def test_bad_input_and_corrupt_parts_are_refused() -> None:
    x = np.ones((3, 8), np.float32)
    with pytest.raises(ValueError, match="pairs do not divide the axis of 7; pad it to 8"):
        encode(x[:, :7], "olive_int4")
    with pytest.raises(ValueError, match="the axis of the pairs is empty"):
        INT4.layout((3, 0))
    x[1, 2] = np.inf
    with pytest.raises(ValueError, match=r"index \[1, 2\].*inf"):
        encode(x, "olive_int4")
    good = encode(np.ones((2, 8), np.float32), "olive_int4")
    for bits in (0x7F800000, 0x80000000, 0x7FC00000):
        with pytest.raises(ValueError, match="scale 1 is negative or not finite"):
            decode(good.replace_parts(scales=np.array([1, bits], np.uint32)))
    with pytest.raises(ValueError, match="codes hold 16"):
        good.replace_parts(codes=np.full((2, 8), 16, np.uint8))
