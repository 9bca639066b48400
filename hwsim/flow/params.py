"""Params of a unit from a command line, and formats whose codes a unit with given Params takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from hwsim import pe
from hwsim.flow.operands import formats_of
from hwsim.formats import BlockSpec, FloatSpec, Format, IntSpec, element, get
from hwsim.formats.families.microexponent import MicroExponentSpec
from hwsim.pe._dot import DotSpec

_MADE = "made for a check"
"""Source of formats that no catalogue has."""


def read_params(unit: Any, text: str, base: Any) -> Any:
    """Return Params with the fields that a text ``field=value,...`` gives; a dot reaches inside a field.

    For example ``lanes=8,accumulator.rounding=rtz`` or ``hadamard.points=32``. Values are integers (also as 0x...),
    true, false, none, or words.

    Raises
    ------
    ValueError
        When a field is unknown or given twice, its value is no such value, or Params refuse it.
    """
    kinds = dict(_fields(base))
    allowed = ", ".join([*(name for name in kinds if "." not in name), *sorted(name for name in kinds if "." in name)])
    changes: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, mark, value = part.partition("=")
        if not mark or name not in kinds:
            raise ValueError(f"--params: {part!r} is no FIELD=VALUE of {unit.NAME}; fields: {allowed}")
        if name in changes:
            raise ValueError(f"--params: {name} is given twice")
        changes[name] = _value(value, kinds[name])
    own = {name: value for name, value in changes.items() if "." not in name}
    try:
        for outer in dict.fromkeys(name.partition(".")[0] for name in changes if "." in name):
            inner = {name.partition(".")[2]: value for name, value in changes.items() if name.startswith(f"{outer}.")}
            own[outer] = replace(getattr(base, outer), **inner)
        return replace(base, **own)
    except TypeError as error:
        raise ValueError(f"--params: {error}") from None


def _fields(base: Any) -> Iterator[tuple[str, str]]:
    """Yield the names of fields and their types in words; those of a field that has fields itself, with a dot."""
    for entry in fields(base):
        value = getattr(base, entry.name)
        if is_dataclass(value):
            yield from ((f"{entry.name}.{inner.name}", str(inner.type)) for inner in fields(value))
        else:
            yield entry.name, str(entry.type)


def _value(text: str, kind: str) -> Any:
    word = text.lower()
    if word in ("true", "false"):
        return word == "true"
    if word == "none":  # a name among names, nothing among numbers
        return "none" if "str" in kind or '"none"' in kind or "'none'" in kind else None
    try:
        return int(text, 0)
    except ValueError:
        return text


def operand_formats(unit: Any, params: Any) -> tuple[Format, Format]:
    """Return formats (weights, activations) whose codes a unit with these Params takes.

    Those of the catalogue where they fit, else plain block formats made for the purpose.

    Raises
    ------
    ValueError
        When none can be made.
    """
    candidates = []
    for name in formats_of(unit.NAME):
        weight, activation = get(name), pe.activation_for(name, unit.NAME)
        able = unit.params_for(weight, activation, params.lanes)
        if able is not None:
            candidates.append((able, weight, activation))
    wanted = _facts(params, [able for able, _, _ in candidates])
    for able, weight, activation in candidates:
        if _facts(able, [able for able, _, _ in candidates]) == wanted:
            return weight, activation
    spec = params.datapath
    if not _is_plain(spec):
        known = ", ".join(weight.name for _, weight, _ in candidates)
        raise ValueError(f"unit {unit.NAME!r}: no format of the catalogue has the operands of {params}; known: {known}")
    return _made("weights", spec, "b"), _made("activations", spec, "a")


def _is_plain(spec: Any) -> bool:
    """Tell whether a datapath says all of its operands."""
    return isinstance(spec, DotSpec) and not spec.acc_bits


def _facts(params: Any, others: list[Any]) -> tuple[Any, ...]:
    """Return what decides the operands of a unit.

    Of a plain datapath, its fields; else the fields of Params in which those of the catalogue's formats differ.
    """
    spec = params.datapath
    if _is_plain(spec):
        return (
            spec.a_element, spec.b_element, spec.a_scale, spec.b_scale,
            spec.block if spec.a_scale or spec.b_scale else 0, spec.a_out, spec.b_out, spec.zero_bits, spec.sub_block,
        )  # fmt: skip
    told = [asdict(other) for other in others]
    varying = [name for name in asdict(params) if len({str(other[name]) for other in told}) > 1]
    return tuple(getattr(params, name) for name in varying)


def _made(name: str, spec: DotSpec, side: str) -> Format:
    """Return a format of one side's element under its scale."""
    code, scale, outer = getattr(spec, f"{side}_element"), getattr(spec, f"{side}_scale"), getattr(spec, f"{side}_out")
    if spec.sub_block:
        exponents, magnitudes = element(scale), element(code)
        assert isinstance(exponents, FloatSpec) and isinstance(magnitudes, FloatSpec)
        return MicroExponentSpec(
            name=name, source=_MADE, element=magnitudes, scale=exponents, block_size=spec.block,
            sub_block=spec.sub_block, shift_bits=spec.shift_bits,
        )  # fmt: skip
    told: dict[str, Any] = {"name": name, "source": _MADE, "element": element(code)}
    if scale is None:
        rule = {"scale": element("float32"), "scale_rule": "amax"} if outer else {}
        return BlockSpec(**told, **rule)  # type: ignore[arg-type]
    found = element(scale)
    assert isinstance(found, FloatSpec | IntSpec)
    told |= {"scale": found, "block_size": spec.block}
    if side == "b" and spec.zero_bits:
        return BlockSpec(**told, scale_rule="range", zero_point="include_zero")
    power = getattr(found, "man_bits", 1) == 0
    # integer scales go with FP16 scales of rows, others with one of the tensor
    kind = {"row_scale": "float16"} if isinstance(found, IntSpec) else {"tensor_scale": "float32"}
    second = {**kind, "scale_cap": found.max_value} if outer else {}
    return BlockSpec(**told, scale_rule="floor" if power else "amax", **second)  # type: ignore[arg-type]


__all__ = ["operand_formats", "read_params"]
