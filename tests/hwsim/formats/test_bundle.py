"""Bundles: what goes in comes out, anything else is one error that names the file, and no half file stays."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hwsim import pe
from hwsim.formats import BlockSpec, Encoded, Format, activation_of, bundle, encode, get, names
from hwsim.formats.bundle import Bundle, BundleError, Layer, read_bundle, write_bundle

META = {"model": "none", "format": "any", "method": {"name": "rtn"}, "seed": 7, "source_sha256": "0" * 64}


def layer(name: str, fmt: str, activation: bool = True) -> Layer:
    """Return a small layer with a few output rows (three, where the format takes any number) and two sample rows."""
    spec = get(fmt)
    act = activation_of(fmt) if fmt in pe.formats() else get("int8")
    k = 64 if fmt == "mxfp4" else 256 + spec.padding(256)
    n = next(n for n in (3, 16, 32, 128) if takes(spec, (n, k)))
    rng = np.random.default_rng(41)
    weight = encode(values(rng, spec, (n, k)), spec)
    if not activation:
        return Layer(name, k - 5, weight)
    sample = encode(rng.normal(size=(2, k)).astype(np.float32), act)
    return Layer(name, k - 5, weight, sample, rng.normal(size=(2, n)).astype(np.float32))


def takes(spec: Format, shape: tuple[int, int]) -> bool:
    """Tell whether a format can hold a tensor of that shape."""
    try:
        spec.layout(shape)
    except ValueError:
        return False
    return True


def values(rng: np.random.Generator, spec: Format, shape: tuple[int, int]) -> np.ndarray:
    """Return random values that a format can hold: some have no sign."""
    x = rng.normal(size=shape).astype(np.float32)
    try:
        encode(x, spec)
    except ValueError:
        return np.abs(x)
    return x


def same(a: Encoded | None, b: Encoded | None) -> None:
    """Demand that two encoded tensors are equal in every field."""
    assert (a is None) == (b is None)
    if a is None or b is None:
        return
    assert a.format == b.format
    assert a.shape == b.shape and set(a.parts) == set(b.parts)
    for name, part in a.parts.items():
        assert part.dtype == b.parts[name].dtype and part.shape == b.parts[name].shape, name
        np.testing.assert_array_equal(part, b.parts[name])


def one_of_each() -> list[Any]:
    """Return all formats as parameters, those beyond the first of their generator for the long run."""
    seen: set[str] = set()
    cases = []
    for name in names():
        generator = get(name).generator or name
        cases.append(pytest.param(name, marks=pytest.mark.slow if generator in seen else ()))
        seen.add(generator)
    return cases


@pytest.mark.parametrize("activation", [True, False], ids=["activations", "weights only"])
@pytest.mark.parametrize("name", one_of_each())
def test_every_format_comes_back_as_it_was(tmp_path: Path, name: str, activation: bool) -> None:
    one, two = layer("model.layers.0.q_proj", name, activation), layer("lm/head", name, False)
    write_bundle(tmp_path / "x.safetensors", Bundle((one, two), META))
    read = read_bundle(tmp_path / "x.safetensors")
    assert read.meta == META
    assert [(x.name, x.k) for x in read.layers] == [(x.name, x.k) for x in (one, two)]
    for before, after in zip((one, two), read.layers, strict=True):
        same(before.weight, after.weight)
        same(before.activation, after.activation)
        if before.reference is None:
            assert after.reference is None
        else:
            assert after.reference is not None
            np.testing.assert_array_equal(before.reference.view(np.uint32), after.reference.view(np.uint32))
    assert read.layer("lm/head").k == two.k


def test_four_bit_codes_are_stored_two_a_byte(tmp_path: Path) -> None:
    one = layer("a", "mxfp4")
    write_bundle(tmp_path / "x", Bundle((one,)))
    with safe_open(str(tmp_path / "x"), framework="numpy") as file:
        stored = file.get_tensor("a/weight.codes")
    assert stored.shape == (3, one.weight.k // 2)
    assert stored[1, 4] == one.weight.codes[1, 8] | one.weight.codes[1, 9] << 4


def test_a_layer_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ValueError, match="no layer 'c' in the bundle; it holds a, b"):
        Bundle((layer("a", "mxfp4"), layer("b", "int8"))).layer("c")


# --- what cannot be written


def test_two_layers_of_one_name_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a'"):
        write_bundle(tmp_path / "x", Bundle((layer("a", "mxfp4"), layer("a", "int8"))))
    assert list(tmp_path.iterdir()) == []


def test_two_formats_of_one_name_are_refused(tmp_path: Path) -> None:
    one = layer("a", "mxfp4", False)
    other = dataclasses.replace(get("mxfp4"), source="another rule")
    mixed = Layer("b", one.k, dataclasses.replace(one.weight, format=other))
    with pytest.raises(ValueError, match="mxfp4"):
        write_bundle(tmp_path / "x", Bundle((one, mixed)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 0}, r"layer a: k = 0 must be an integer in 1 \.\. 64"),
        ({"k": 65}, r"layer a: k = 65 must be an integer in 1 \.\. 64"),
        ({"activation": encode(np.ones((2, 32), np.float32), "mxfp4")}, "layer a: activations have K = 32, weights 64"),
        (
            {"reference": np.zeros((2, 4), np.float32)},
            r"layer a: reference must be float32 \[2, 3\], not float32 \[2, 4\]",
        ),
        ({"activation": None}, r"layer a: reference must be float32 \[None, 3\], not float32 \[2, 3\]"),
    ],
    ids=["k 0", "k beyond", "K of activations", "reference shape", "reference without rows"],
)
def test_parts_of_a_layer_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(layer("a", "mxfp4"), **change)


@pytest.mark.parametrize("where", ["missing/x.safetensors", "file/x.safetensors"])
def test_a_folder_that_cannot_be_written_is_an_os_error_that_names_it(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=where.split("/")[0]):
        write_bundle(tmp_path / where, Bundle((layer("a", "mxfp4"),)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "x.safetensors"
    write_bundle(path, Bundle((layer("a", "mxfp4"),)))
    old = path.read_bytes()

    def half(_tensors: object, target: str, **_: object) -> None:
        Path(target).write_bytes(b"half")
        raise error

    monkeypatch.setattr(bundle, "save_file", half)
    with pytest.raises(type(error)):
        write_bundle(path, Bundle((layer("b", "int8"),)))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_that_is_not_json_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_bundle(tmp_path / "x", Bundle((layer("a", "mxfp4"),), {"seed": object()}))
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_bundle(tmp_path / "x", Bundle((layer("a", "mxfp4"),)))
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- what cannot be read


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Return a good bundle of two layers."""
    path = tmp_path / "good.safetensors"
    write_bundle(path, Bundle((layer("a", "nvfp4"), layer("b", "int4_g128_asym")), META))
    return path


def edit(path: Path, change: Any, tensors: Any = None) -> None:
    """Rewrite a bundle with edited metadata (a function of the parsed JSON, in place) and tensors, hashes kept."""
    with safe_open(str(path), framework="numpy") as file:
        meta = json.loads(file.metadata()["hwsim"])
        data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if tensors is not None:
        tensors(data)
    change(meta)
    save_file(data, path, metadata={"hwsim": json.dumps(meta)})


def refused(path: Path, *words: str) -> None:
    """Demand one BundleError of one line that names the file and the words."""
    with pytest.raises(BundleError) as error:
        read_bundle(path)
    for word in (str(path), *words):
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors")
    refused(tmp_path)


@pytest.mark.parametrize("text", [b"", b"x", b"{}", b"PK\x03\x04" + bytes(200), struct.pack("<Q", 1 << 40) + b"{}"])
def test_a_file_of_another_kind(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x").write_bytes(text)
    refused(tmp_path / "x")


def test_safetensors_without_our_key(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "x")
    refused(tmp_path / "x", "'hwsim'")


@pytest.mark.parametrize("fraction", [0.0005, 0.05, 0.5, 0.95, 0.9999])
def test_a_truncated_file(good: Path, fraction: float) -> None:
    data = good.read_bytes()
    good.write_bytes(data[: int(len(data) * fraction)])
    refused(good)


def test_a_flipped_bit_in_any_tensor_is_named(good: Path) -> None:
    data = good.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        broken = bytearray(data)
        broken[start + entry["data_offsets"][1] - 1] ^= 0x10
        good.write_bytes(bytes(broken))
        refused(good, repr(name))


def test_a_flipped_bit_anywhere_in_the_header_is_refused(good: Path) -> None:
    data = good.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    accepted = []
    for at in range(0, start, 11):
        broken = bytearray(data)
        broken[at] ^= 0x01
        good.write_bytes(bytes(broken))
        try:
            read_bundle(good)
        except BundleError as error:
            assert str(good) in str(error)
        else:
            accepted.append(bytes(broken[max(8, at - 20) : at + 20]))
    assert accepted == []


def _set(*path: Any) -> Any:
    """Return a change that sets one entry of the metadata: keys, then the value."""

    def change(meta: Any) -> None:
        for key in path[:-2]:
            meta = meta[key]
        meta[path[-2]] = path[-1]

    return change


def _drop(*path: Any) -> Any:
    """Return a change that removes one entry of the metadata."""

    def change(meta: Any) -> None:
        for key in path[:-1]:
            meta = meta[key]
        del meta[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("bundle_version", 99), ["99"]),
        (_drop("bundle_version"), ["bundle_version"]),
        (_set("formats", "nvfp4", "scale_cap", 256.0), ["nvfp4", "scale_cap", "256.0", "448.0"]),
        (_set("formats", "nvfp4", "element", "bias", 2), ["nvfp4", "element"]),
        (_set("formats", "nvfp4", "extra", 1), ["nvfp4", "extra"]),
        (_drop("formats", "nvfp4", "rounding"), ["nvfp4", "rounding"]),
        (_drop("formats", "nvfp4"), ["nvfp4"]),
        (_drop("formats"), ["formats"]),
        (_set("formats", "fp5", {}), ["fp5"]),
        (_set("layers", 0, "weight", "mxfp4"), ["mxfp4"]),
        (_set("layers", 0, "weight", "fp5"), ["fp5"]),
        (_set("layers", 0, "k", 10**6), ["layer a", "1000000"]),
        (_set("layers", 0, "k", "27"), []),
        (_set("layers", 0, "k_padded", 64), ["layer a", "k_padded"]),
        (_drop("layers", 0, "k"), ["layer a", "'k'"]),
        (_set("layers", 0, "name", "c"), ["layer c"]),
        (_set("layers", 1, "name", "a"), ["layer a"]),
        (lambda meta: meta["layers"].append(meta["layers"][0]), []),
        (_drop("layers"), ["layers"]),
        (_drop("sha256", "a/weight.codes"), ["a/weight.codes"]),
        (_set("sha256", "a/weight.codes", "0" * 64), ["a/weight.codes"]),
        (_set("sha256", "ghost", "0" * 64), ["ghost"]),
        (_drop("sha256"), ["hashes"]),
    ],
    ids=[
        "version", "no version", "rule", "rule inside", "rule added", "rule dropped", "format dropped",
        "formats dropped", "format unknown", "layer of another format", "layer of an unknown format", "k beyond",
        "k as text", "k_padded", "no k", "layer renamed", "layer of another name", "layer twice", "no layers",
        "hash dropped", "hash changed",
        "hash of nothing", "no hashes",
    ],
)  # fmt: skip
def test_edited_metadata_is_refused_with_its_key(good: Path, change: Any, words: list[str]) -> None:
    edit(good, change)
    refused(good, *words)


def test_metadata_that_is_no_object_is_refused(good: Path) -> None:
    with safe_open(str(good), framework="numpy") as file:
        data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for text in ("[]", "3", "{", ""):
        save_file(data, good, metadata={"hwsim": text})
        refused(good)


def test_a_tensor_taken_out_is_named(good: Path) -> None:
    edit(good, lambda meta: None, lambda data: data.pop("a/weight.scales"))
    refused(good, "a/weight.scales")
    edit(good, lambda meta: meta["sha256"].pop("a/weight.scales"))
    refused(good, "layer a", "a/weight.scales")


def test_a_format_outside_the_catalogue_is_refused_when_written(tmp_path: Path) -> None:
    """Its reader could not know it: better an error now than a file that nobody can read."""
    mine: BlockSpec = dataclasses.replace(get("mxfp4"), name="mxfp4_test")
    weight = encode(np.ones((2, 32), np.float32), mine)
    with pytest.raises(ValueError, match="mxfp4_test"):
        write_bundle(tmp_path / "x", Bundle((Layer("a", 32, weight),)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["bundle_version", "formats", "layers", "sha256"])
def test_metadata_that_would_hide_our_own_keys_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        write_bundle(tmp_path / "x", Bundle((layer("a", "mxfp4"),), {key: 5}))
    assert list(tmp_path.iterdir()) == []


def test_blocks_along_another_axis_are_refused(tmp_path: Path) -> None:
    """The file does not store the axis: decoding would come back transposed."""
    weight = encode(np.ones((32, 3), np.float32), "mxfp4", axis=0)
    with pytest.raises(ValueError, match=r"layer a.*axis"):
        Layer("a", 32, weight)


def reseal(path: Path, change: Any) -> None:
    """Edit metadata and tensors and put every hash right again, as a careless tool would: only sense can refuse it."""
    with safe_open(str(path), framework="numpy") as file:
        meta = json.loads(file.metadata()["hwsim"])
        data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(meta, data)
    meta["sha256"] = {key: bundle._digest(tensor) for key, tensor in data.items()}
    text = json.dumps(meta)
    save_file(data, path, metadata={"hwsim": text, "hwsim_sha256": bundle._text_digest(text)})


def _empty(meta: Any, data: Any) -> None:
    meta["layers"] = []
    data.clear()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda meta, data: meta["layers"].append(meta["layers"][0]), ["layers", "'a' stands twice"]),
        (_empty, ["layers", "holds none"]),
        (lambda meta, data: data.update({"c/weight.codes": np.zeros(2, np.uint8)}), ["'c/weight.codes'", "no layer"]),
        (lambda meta, data: meta["layers"][0].update(k=True), ["layer a", "k = True must be an integer"]),
        (lambda meta, data: meta["layers"][0].update(k=30.5), ["layer a", "k = 30.5 must be an integer"]),
        (
            lambda meta, data: data.update({"a/reference": data["a/reference"].astype(np.float64)}),
            ["layer a", "must be float32"],
        ),
    ],
    ids=["layer twice", "no layers", "tensor of no layer", "k true", "k a fraction", "reference in float64"],
)
def test_a_resealed_bundle_that_makes_no_sense_is_refused(good: Path, change: Any, words: list[str]) -> None:
    reseal(good, lambda meta, data: None)
    read_bundle(good)  # the seal itself is right
    reseal(good, change)
    refused(good, *words)


def test_a_full_disk_is_one_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(bundle, "save_file", full)
    with pytest.raises(OSError, match=r"here: the bundle cannot be written: .*No space left"):
        write_bundle(tmp_path / "here", Bundle((layer("a", "mxfp4"),)))
    assert list(tmp_path.iterdir()) == []
