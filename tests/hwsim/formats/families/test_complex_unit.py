"""Complex units against exact rationals and PyTorch's phases."""

import cmath
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import decode, encode, get
from hwsim.formats.families.complex_unit import ComplexUnitSpec
from tests.hwsim.formats.families.test_ternary import KINDS, exact, float_bits, float_value, inputs

INTERLEAVED = get("fairy_pm1_pmi")
HALVES = INTERLEAVED.with_rules(pairs="halves")


def corners() -> np.ndarray:
    """Return every border of the quarters, the float32 on either side of it, and the axes, at several sizes."""
    points = []
    for size in (1.0, 1.1754944e-38, 3e38, 2.0**-149):
        one = np.float32(size)
        near = [one, np.nextafter(one, np.float32(0)), np.float32(0)]
        points += [(sr * a, si * b) for a in near for b in near for sr in (1, -1) for si in (1, -1)]
    return np.array(points, np.float32).reshape(1, -1)


def split(x: np.ndarray, spec: ComplexUnitSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return real and imaginary parts."""
    k = x.shape[-1]
    return (x[..., ::2], x[..., 1::2]) if spec.pairs == "interleaved" else (x[..., : k // 2], x[..., k // 2 :])


def unit(re, im) -> int:
    """Return n of i**n: turn a quarter back until the number lies in the first one, [-pi/4, pi/4)."""
    if re == 0 and im == 0:
        return 0
    turns = 0
    while not (re > 0 and -re <= im < re):
        re, im, turns = im, -re, turns + 1
    return turns


@pytest.mark.parametrize("kind", [*KINDS, "corners", "real", "long"])
@pytest.mark.parametrize("spec", [INTERLEAVED, HALVES], ids=lambda spec: spec.name)
def test_oracle(spec, kind):
    if kind == "corners":
        x = corners()
    elif kind == "long":  # several runs of either axis in a row
        x = inputs("random", (3, 4200))
    else:
        x = inputs("random" if kind == "real" else kind)
    if kind == "real":
        x[:, 1::2] = x[:, :48] = 0
    encoded = encode(x, spec)
    real, imag = split(x, spec)
    parts, units = ([], []), []
    for re, im in zip(exact(real), exact(imag), strict=True):
        units.append(unit(re, im))
        parts[units[-1] % 2].append(abs(im if units[-1] % 2 else re))
    assert encoded.codes.ravel().tolist() == units
    floor = float_bits(exact(np.array([1e-5], np.float32))[0], "float32")
    scales = [max(float_bits(sum(part) / max(len(part), 1) if part else 0 * floor, "float32"), floor) for part in parts]
    assert [int(encoded.parts[name].view(np.uint32)) for name in ("scale_re", "scale_im")] == scales
    steps = [float_value(bits, "float32") for bits in scales]
    out_re, out_im = split(decode(encoded), spec)
    values = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    assert exact(out_re) == [values[u][0] * steps[0] for u in units]
    assert exact(out_im) == [values[u][1] * steps[1] for u in units]


def test_every_degree():
    # away from borders the phase itself tells the quarter
    for degree in range(360):
        if (degree + 45) % 90 == 0:
            continue
        point = cmath.rect(1, math.radians(degree))
        code = encode(np.array([[point.real, point.imag]], np.float32), INTERLEAVED).codes[0, 0]
        assert code == (degree + 45) // 90 % 4


def test_torch_phases():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(1).normal(size=(16, 128)).astype(np.float32)
    # zero and the axes; not the borders, where the rounded phase of PyTorch's vector code lies an ulp inside the
    # neighbouring quarter, and that of its scalar code does not
    x[0, :10] = [0, 0, 1, 0, 0, 1, -1, 0, 0, -1]
    real, imag = (torch.from_numpy(part.copy()) for part in split(x, INTERLEAVED))
    phase = torch.angle(real + 1j * imag)
    assert (np.abs(np.abs(phase.numpy()) % (math.pi / 2) - math.pi / 4) > 1e-6).all()
    quarter = math.pi / 4
    plus = (phase >= -quarter) & (phase < quarter)
    minus = (phase >= 3 * quarter) | (phase < -3 * quarter)
    plus_i = (phase >= quarter) & (phase < 3 * quarter)
    codes = torch.where(plus, 0, torch.where(minus, 2, torch.where(plus_i, 1, 3)))
    encoded = encode(x, INTERLEAVED)
    assert (encoded.codes == codes.numpy()).all()
    for name, part, chosen in (("scale_re", real, plus | minus), ("scale_im", imag, ~(plus | minus))):
        mean = part[chosen].abs().mean().clamp(min=1e-5).item()  # summed in float32
        assert abs(encoded.parts[name] - mean) <= 4 * np.spacing(np.float32(mean))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_properties(seed, turns):
    x = np.random.default_rng(seed).normal(size=(2, 32)).astype(np.float32)
    encoded = encode(x, INTERLEAVED)
    once = decode(encoded)
    assert (decode(encode(once, INTERLEAVED)) == once).all()
    turned = x.copy()
    for _ in range(turns):  # times i
        turned[:, ::2], turned[:, 1::2] = -turned[:, 1::2], turned[:, ::2].copy()
    assert (encode(turned, INTERLEAVED).codes == (encoded.codes + turns) % 4).all()
    halves = np.concatenate([x[:, ::2], x[:, 1::2]], axis=1)
    assert (encode(halves, HALVES).codes == encoded.codes).all()


def test_layout_and_errors():
    x = np.random.default_rng(2).normal(size=(3, 5, 8)).astype(np.float32)
    encoded = encode(x, INTERLEAVED)
    assert encoded.codes.shape == (3, 5, 4) and INTERLEAVED.bits_per_element(64) == 1
    assert (decode(encoded).reshape(15, 8) == decode(encode(x.reshape(15, 8), INTERLEAVED))).all()
    padded = encode(x[..., :7].copy(), INTERLEAVED, pad=True)
    assert padded.padding == 1 and decode(padded).shape == (3, 5, 7)
    for spec in (INTERLEAVED, HALVES):
        with pytest.raises(ValueError, match="an axis of 7 does not hold pairs"):
            encode(x[..., :7].copy(), spec)
    with pytest.raises(ValueError, match=r"codes hold 4, allowed 0 \.\. 3"):
        encoded.replace_parts(codes=np.full((3, 5, 4), 4, np.uint8))
    with pytest.raises(ValueError, match="pairs is 'polar', allowed: interleaved, halves"):
        INTERLEAVED.with_rules(pairs="polar")
    with pytest.raises(ValueError, match="scale_floor must be a float32"):
        INTERLEAVED.with_rules(scale_floor=-1.0)
    x[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"index \[1, 2, 3\]"):
        encode(x, INTERLEAVED)
