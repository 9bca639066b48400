"""The requantiser against exact rationals, against `encode`, and its shift registers against a plain one."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from hwsim.formats import FloatSpec, IntSpec, encode, get
from hwsim.formats import names as format_names
from hwsim.formats.requantize import Requant, multiply, quantize_multiplier
from hwsim.pe import hadamard, hadamard_requant, requant
from hwsim.pe._lfsr import Lfsr
from hwsim.pe._stream import corner_float32, split

CONFIGURATIONS = requant.configurations()


def exact(x: np.float32) -> Fraction:
    return Fraction(float(x))


def nearest(value: Fraction, element: FloatSpec | IntSpec, away: bool = False) -> int:
    """Return the code nearest to a value by looking at all of them; beyond the end the end.

    Ties go to the even code, or to the larger one.
    """
    top = element.max_code if isinstance(element, FloatSpec) else element.qmax
    levels = [element.value(code) for code in range(top + 1)]
    best = min(range(top + 1), key=lambda code: (abs(levels[code] - abs(value)), -code if away else code % 2))
    if isinstance(element, IntSpec):
        return (-best if value < 0 else best) & ((1 << element.bits) - 1)
    return best


def floor_log2(value: Fraction) -> int:
    exponent = 0
    while value >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while value < Fraction(2) ** exponent:
        exponent -= 1
    return exponent


def mx_scale(amax: Fraction, fmt: str) -> int:
    """Return the code of a power-of-two scale by the words of its rule."""
    spec = get(fmt)
    if amax == 0:  # microxcaling: 2**(-126 - emax) clamped, which is code 0 or 1
        return max(1 - spec.element.emax, 0) if spec.zero_block == "microxcaling" else 0
    if spec.scale_rule == "rceil":  # the least power of two that reaches the float32 product
        product = exact(np.float32(float(amax)) * (np.float32(1) / np.float32(spec.element.max_value)))
        if product == 0:
            return 0
        exponent = floor_log2(product)
        return min(max(exponent + (product != Fraction(2) ** exponent) + 127, 0), 254)
    exponent = floor_log2(amax)
    if spec.scale_rule == "even":  # half up to the element's mantissa
        man_bits = spec.element.man_bits if isinstance(spec.element, FloatSpec) else spec.element.bits - 2
        exponent = floor_log2(amax + Fraction(2) ** (exponent - man_bits - 1))
    elif spec.scale_rule == "ceil" and amax != Fraction(2) ** exponent:
        exponent += 1
    return min(max(exponent - spec.element.emax + 127, 0), 254)


@pytest.mark.parametrize(
    "fmt",
    ["mxfp4", "mxfp4_even", "mxfp8_e4m3_ceil", "mxfp6_e3m2", "mxint8", "mxint8_even", "mxfp4_rceil", "mxint8_rceil",
     "mxfp4_microxcaling", "mxint8_microxcaling"],
)  # fmt: skip
def test_mx_blocks_by_exact_rationals(fmt: str) -> None:
    params = requant.Params(format=fmt)
    x = requant.operands(params, 60, np.random.default_rng(1))["x"].view(np.float32).reshape(60, 32)
    x[0], x[1], x[2] = 0, np.float32(-0.0), np.float32(2.0**-149)
    found = requant.quantise(x, params)
    for row, codes, scale in zip(x, found["codes"], found["scales"], strict=True):
        want = mx_scale(max(abs(exact(value)) for value in row), fmt)
        assert scale == want
        element = params.spec.element
        sign = 1 << (element.bits - 1) if isinstance(element, FloatSpec) else 0
        step = Fraction(2) ** (want - 127)
        for value, code in zip(row, codes, strict=True):
            want_code = nearest(exact(value) / step, element, fmt.endswith("microxcaling"))
            assert code == want_code | (sign if np.signbit(value) else 0)


@pytest.mark.parametrize("fmt", [name for name in requant.formats() if get(name).scale_rule in requant.POWER_RULES])
def test_a_power_of_two_scale_is_a_comparison_of_the_mantissa(fmt: str) -> None:
    """The borders that the hardware compares with, around each of them and under every exponent, against `encode`."""
    spec = get(fmt)
    emax, border, first = requant.scale_borders(spec)
    exponents, offsets = np.meshgrid(np.arange(-149, 128), [*range(-3, 4), -border, (1 << 23) - 1 - border])
    mantissas = np.clip(border + offsets, 0, (1 << 23) - 1).reshape(-1)
    with np.errstate(under="ignore"):
        top = (np.exp2(exponents.reshape(-1).astype(np.float64)) * (1 + mantissas * 2.0**-23)).astype(np.float32)
    fraction, power = np.frexp(top)  # subnormal numbers lose bits of their mantissa
    mantissa, exponent = ((fraction.astype(np.float64) * 2 - 1) * (1 << 23)).astype(np.int64), power.astype(int) - 1
    low = exponent == emax - spec.scale.bias
    codes = exponent + (mantissa >= np.where(low, first, border)) - emax + spec.scale.bias
    x = np.zeros((len(top), spec.block_size), np.float32)
    x[:, 3] = -top
    found = requant.quantise(x, requant.Params(format=fmt))["scales"]
    np.testing.assert_array_equal(found, np.clip(codes, 0, spec.scale.max_code))


@pytest.mark.parametrize("fmt", ["int2_g32", "int3_g64", "int4_g32"])
def test_groups_under_a_float_scale_by_exact_rationals(fmt: str) -> None:
    params = requant.Params(format=fmt)
    element, scale = params.spec.element, params.spec.scale
    x = requant.operands(params, 120, np.random.default_rng(2))["x"].view(np.float32).reshape(-1, params.block)
    found, kinds = requant.quantise(x, params), set()
    for row, codes, code in zip(x, found["codes"], found["scales"], strict=True):
        quotient = max(abs(exact(value)) for value in row) / element.qmax
        with np.errstate(over="ignore"):  # a float64 quotient could be rounded twice: it is rounded as a rational
            near = min(int(np.float16(float(quotient)).view(np.uint16)), scale.max_code)
        around = range(max(near - 1, 0), min(near + 1, scale.max_code) + 1)
        assert code == min(around, key=lambda each: (abs(scale.value(each) - quotient), each % 2))
        kinds.add(
            "zero" if code == 0 else "subnormal" if code < 1024 else "top" if code == scale.max_code else "normal"
        )
        step = scale.value(int(code))
        for value, found_code in zip(row, codes, strict=True):
            assert found_code == nearest(exact(value) / step if step else Fraction(0), element)
    assert kinds == {"zero", "subnormal", "top", "normal"}


@pytest.mark.parametrize("fmt", ["nvfp4", "nvfp4_modelopt", "nvint4"])
def test_blocks_under_a_given_tensor_scale_by_exact_rationals(fmt: str) -> None:
    params = requant.Params(format=fmt)
    spec = params.spec
    beats = requant.operands(params, 250, np.random.default_rng(2))
    x = beats["x"].reshape(-1, 16).view(np.float32)
    g = beats["tensor_scale"][:: params.datapath.beats].view(np.float32)
    x[0], g[1] = 0, np.float32(2.0**-149)
    found = requant.quantise(x, params, g)
    level = 7 if fmt == "nvint4" else 6
    scales = [spec.scale.value(code) for code in range(127)]
    ties = set()
    for row, outer, codes, scale in zip(x, g, found["codes"], found["scales"], strict=True):
        amax = max(abs(exact(value)) for value in row)
        quotient = amax / (level * exact(outer)) if amax else Fraction(spec.zero_block == "one")
        quotient = max(quotient, Fraction(spec.scale_floor))
        assert scale == nearest(quotient, spec.scale)
        ties |= {"scale"} if any((a + b) / 2 == quotient for a, b in pairwise(scales)) else set()
        step = scales[scale] * exact(outer)
        for value, code in zip(row, codes, strict=True):
            steps = exact(value) / step if step else Fraction(0)
            sign = 8 if np.signbit(value) and fmt != "nvint4" else 0
            assert code == nearest(steps, spec.element) | sign
            ties |= {"element"} if steps.denominator in (2, 4) and code else set()
    assert ties == {"scale", "element"}


@pytest.mark.parametrize("name", [name for name, params in CONFIGURATIONS.items() if params.source == "float32"])
def test_every_format_is_what_encode_gives(name: str) -> None:
    params = CONFIGURATIONS[name]
    x = corner_float32(np.random.default_rng(3), (40, params.block))
    if params.has_tensor_scale:
        encoded = encode(x, params.spec)
        found = requant.quantise(x, params, np.full(40, encoded.tensor_scale))
    else:
        encoded, found = encode(x, params.spec), requant.quantise(x, params)
    if params.rounding != "lfsr":
        np.testing.assert_array_equal(found["codes"], encoded.codes)
    if params.spec.scale is not None:
        np.testing.assert_array_equal(found["scales"], encoded.scales[:, 0])


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16"])
def test_casts_are_those_of_ml_dtypes(fmt: str) -> None:
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), fmt, fmt))
    params = requant.Params(format=fmt, lanes=16)
    x = corner_float32(np.random.default_rng(4), (100, 16))
    x = np.clip(x, -params.spec.max_value, params.spec.max_value).astype(np.float32)
    want = x.astype(dtype).view(f"uint{8 * dtype.itemsize}")
    np.testing.assert_array_equal(requant.quantise(x, params)["codes"], want)


@pytest.mark.parametrize("method", requant.INT_METHODS)
def test_integers_by_the_plain_rule(method: str) -> None:
    params = CONFIGURATIONS[f"int8_{method}"]
    beats = requant.operands(params, 150, np.random.default_rng(5))
    got = requant.outputs(beats, params)["codes"]
    for row in range(150):
        multiplier, shift = int(beats["multiplier"][row]), int(beats["shift"][row])
        multiplier -= (multiplier >> 31) << 32 if method == "gemmlowp" else 0
        shift -= (shift >> 5) << 6
        for word, code in zip(beats["x"][row].tolist(), got[row].tolist(), strict=True):
            value = multiply(word - ((word >> 31) << 32), multiplier, shift, method) + params.zero_point
            assert code == min(max(value, -128), 127) & 255


def test_integers_from_a_real_multiplier() -> None:
    params = requant.Params(source="int32", format="", lanes=2, qmin=0, qmax=15)
    multiplier, shift = quantize_multiplier(0.05)
    assert requant.requant(params, multiplier, shift) == Requant((multiplier,), (shift,), qmin=0, qmax=15)
    beats = {"x": np.array([[100, 2**32 - 100]]), "multiplier": np.array([multiplier]), "shift": np.array([shift % 64])}
    assert requant.outputs(beats, params)["codes"].tolist() == [[5, 0]]
    with pytest.raises(ValueError, match="shifts must be -32 to 31, not -40"):
        requant.requant(params, multiplier, -40)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_outputs_are_the_reference_block_by_block(name: str) -> None:
    params = CONFIGURATIONS[name]
    beats, each = requant.operands(params, 25, np.random.default_rng(6)), params.datapath.beats
    results = split(requant.outputs(beats, params), each)
    for number, (block, got) in enumerate(zip(split(beats, each), results, strict=True)):
        want = requant.reference(block, params, number * each)
        assert set(want) == set(got)
        for field, values in want.items():
            np.testing.assert_array_equal(values, got[field])


def test_the_default_register_visits_every_state_once() -> None:
    lfsr, state, seen = Lfsr(), 1, set()
    while state not in seen:
        seen.add(state)
        state = lfsr.step(state)
    assert len(seen) == (1 << 16) - 1 and state == 1


@pytest.mark.parametrize("lfsr", [Lfsr(), Lfsr(32, 0x80200003, 24, 9), Lfsr(5, 0b10100, 5, 1)])
def test_draws_and_their_equations(lfsr: Lfsr) -> None:
    got = lfsr.draws(50, 3)
    for lane in range(3):
        state = lfsr.start(lane)
        for number in range(50):
            assert got[number, lane] == state % (1 << lfsr.draw_bits)
            bits = [(mask & state).bit_count() % 2 for mask in lfsr.sources()]
            state = lfsr.advance(state)
            assert sum(bit << i for i, bit in enumerate(bits)) == state


def test_stochastic_rounding_is_fair_and_stays_between_neighbours() -> None:
    params = requant.Params(format="float8_e4m3fn", lanes=16, rounding="lfsr", random_bits=8)
    for part in (0.0, 0.25, 0.7, 0.99):
        codes = requant.quantise(np.full((4000, 16), 16 + 2 * part, np.float32), params)["codes"]
        low = encode(np.full(1, 16, np.float32), "float8_e4m3fn").codes[0]
        assert set(np.unique(codes)) <= {low, low + 1}
        assert abs((codes - low).mean() - part) < 0.02
    found = requant.quantise(np.full((1, 16), 1e30, np.float32), params)["codes"]
    assert (found == 0x7E).all()  # saturates


def test_stochastic_codes_are_within_a_step_of_the_value_under_the_same_scale() -> None:
    fmt = get("mxfp4")
    x = corner_float32(np.random.default_rng(7), (200, 32))
    found = requant.quantise(x, requant.Params(rounding="lfsr"))
    plain = requant.quantise(x, requant.Params())
    np.testing.assert_array_equal(found["scales"], plain["scales"])
    down = requant.quantise(x, requant.Params(rounding="rtz"))["codes"]
    up = requant.quantise(x, requant.Params(rounding="raz"))["codes"]
    assert ((found["codes"] == down) | (found["codes"] == up)).all()
    assert (found["codes"] != plain["codes"]).any() and fmt.name == "mxfp4"


def test_nan_and_inf() -> None:
    x = np.zeros((3, 32), np.float32)
    x[1, 5] = np.inf
    with pytest.raises(ValueError, match=r"requant: the value at index \[1, 5\] is inf"):
        requant.quantise(x, requant.Params())
    x[1, 6], x[1, 7] = np.nan, -1.0
    found = requant.quantise(x, requant.Params(nan_policy="propagate"))
    assert found["scales"].tolist() == [0, 255, 0]
    assert found["codes"][1, 4:8].tolist() == [0, 0, 0, 8]


def test_supported_formats_are_explicit() -> None:
    taken = requant.formats()
    assert len(taken) >= 103
    assert {"mxfp4", "mxfp8_e4m3_ceil", "mxint8_even", "nvfp4", "nvint4", "float8_e5m2", "bfloat16"} <= set(taken)
    assert {"mxfp8_e5m2_rceil", "mxint8_microxcaling", "int2_g128", "int3_g32", "int4_g64"} <= set(taken)
    for name in format_names():
        if name not in taken:
            with pytest.raises(ValueError, match=f"requant: format {name} is not taken: .*; taken: bfloat16, "):
                requant.Params(format=name)


REFUSED = {
    "mx9": "MicroExponentSpec is another family",
    "gguf_q4_0": "GgufSpec is another family",
    "nf4_bs64": "elements are signed floats or integers of at most 16 bits",
    "int4_g128_asym": "elements are signed floats or integers of at most 16 bits",
    "float32": "elements are signed floats or integers of at most 16 bits",
    "float8_e4m3z": "float elements have subnormals",
    "int8": "a scale of a row or a tile takes a pass over it",
    "int4_g16_vsq": "a scale of a row or a tile takes a pass over it",
    "nvfp4_16x16": "a scale of a row or a tile takes a pass over it",
    "int5_g128": "elements have at most 4 bits",
    "fp8_e4m3_g128": "elements have at most 4 bits",
    "nvfp4_torchao": "quotients are exact and rounded rne; float32 ones would take dividers",
}
"""One format for every reason."""


@pytest.mark.parametrize("name", REFUSED)
def test_every_reason_for_refusing_a_format(name: str) -> None:
    reason = requant.objection(get(name))
    assert reason is not None and REFUSED[name] in reason


def test_no_format_is_refused_for_another_reason() -> None:
    known = set(REFUSED.values()) - {"MicroExponentSpec is another family", "GgufSpec is another family"}
    for name in format_names():
        reason = requant.objection(get(name))
        assert reason is None or "another family" in reason or any(words in reason for words in known), (name, reason)


def test_the_rounding_of_a_format_is_its_own_unless_another_is_asked_for() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :3] = 4, 1.25, -1.25  # the tie between 1 and 1.5
    for fields, codes in (({}, [6, 3, 11]), ({"rounding": "rne"}, [6, 2, 10]), ({"rounding": "raz"}, [6, 3, 11])):
        found = requant.quantise(x, requant.Params(format="mxfp4_microxcaling", **fields))
        assert found["codes"][0, :3].tolist() == codes


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": "int8"}, "source must be float32 or int32, not 'int8'"),
        ({"lanes": 0}, "lanes must be 1 to 256, not 0"),
        ({"lanes": 5}, "lanes must divide the block of 32, not be 5"),
        ({"rounding": "stochastic"}, "rounding of mxfp4 must be one of .*, not 'stochastic'"),
        ({"format": "nvfp4", "rounding": "lfsr"}, "rounding of nvfp4 must be one of rne, not 'lfsr'"),
        ({"overflow": "nonsaturating"}, "is for bare elements"),
        ({"format": "nvfp4", "nan_policy": "propagate"}, "goes with neither lfsr nor a scale of rule amax"),
        ({"format": "float8_e4m3fnuz", "rounding": "lfsr"}, "which float8_e4m3fnuz has not"),
        ({"source": "int32"}, "format must be '', not 'mxfp4'"),
        ({"source": "int32", "format": "", "method": "hawq_v3_float64"}, "method must be one of gemmlowp, "),
        ({"source": "int32", "format": "", "qmax": 70000}, "must fit 16 bits, not be -128 .. 70000"),
        ({"source": "int32", "format": "", "rounding": "rtz"}, "leave rounding"),
        ({"source": "int32", "format": "", "zero_point": 1 << 31}, "zero_point must fit int32"),
    ],
)
def test_bad_params_are_named(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=f"requant: .*{words}"):
        requant.Params(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lfsr_bits": 33}, "lfsr_bits must be 4 to 32, not 33"),
        ({"lfsr_taps": 0x3400}, "must have 16 bits, the top one set, not 0x3400"),
        ({"random_bits": 17}, "random_bits must be 1 to 16, not 17"),
        ({"lfsr_seed": -1}, "lfsr_seed must be 0 to"),
    ],
)
def test_bad_registers_are_named(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        requant.Params(rounding="lfsr", **fields)


def test_bad_operands_are_named() -> None:
    nv, x = requant.Params(format="nvfp4"), np.ones((2, 16), np.float32)
    with pytest.raises(ValueError, match="nvfp4 takes a tensor scale"):
        requant.quantise(x, nv)
    with pytest.raises(ValueError, match="positive and finite"):
        requant.quantise(x, nv, np.array([1, 0], np.float32))
    with pytest.raises(ValueError, match=r"float32 \[blocks, 32\], not float32 \[2, 16\]"):
        requant.quantise(x, requant.Params())
    with pytest.raises(ValueError, match="mxfp4 takes no tensor scale"):
        requant.quantise(np.ones((1, 32), np.float32), requant.Params(), np.ones(1, np.float32))


@pytest.mark.parametrize("name", hadamard_requant.configurations())
def test_the_fused_unit_is_one_after_the_other(name: str) -> None:
    params = hadamard_requant.configurations()[name]
    spec, first = params.datapath, params.hadamard
    beats = hadamard_requant.operands(params, 12, np.random.default_rng(8))
    got = hadamard_requant.outputs(beats, params)
    if first.arithmetic == "int":
        x = (beats["x"].astype(np.int64) ^ 128) - 128
    else:
        x = beats["x"].astype(np.uint16).view(np.float16)
    y = hadamard.transform(x.reshape(-1, first.points), first).astype(np.float32).reshape(-1, params.requant.block)
    outer = None
    if params.requant.has_tensor_scale:
        outer = np.repeat(beats["tensor_scale"][spec.beats - 1 :: spec.beats].view(np.float32), len(y) // 12)
    want = requant.quantise(y, params.requant, outer)
    np.testing.assert_array_equal(got["codes"].reshape(y.shape), want["codes"])
    np.testing.assert_array_equal(got["scale"][:: params.requant.datapath.beats], want["scales"])
    plain = [
        hadamard_requant.reference(part, params, i * spec.beats) for i, part in enumerate(split(beats, spec.beats))
    ]
    for field in got:
        np.testing.assert_array_equal(np.concatenate([part[field] for part in plain]), got[field])


def test_bad_fused_params_are_named() -> None:
    wide = {"points": 128, "lanes": 8, "in_bits": 20}
    for fields, words in [
        ({"hadamard": {"lanes": 4}}, "hadamard.lanes = 4 and requant.lanes = 8 must be equal"),
        ({"requant": {"source": "int32", "format": ""}}, "requant.source must be float32"),
        ({"hadamard": wide}, "integers of 27 bits are no FP32 numbers"),
        ({"hadamard": 3}, "hadamard must be Params of hadamard, not 3"),
    ]:
        with pytest.raises(ValueError, match=words):
            hadamard_requant.Params(**fields)
