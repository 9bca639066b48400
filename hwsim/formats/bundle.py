"""A layer is a file: quantised layers with sample operands and their float reference, in one safetensors file.

Layout (bundle version 2). For layer ``L``:

======================  ==========================  =====================================================
tensor                  dtype, shape                content
======================  ==========================  =====================================================
``L/weight.codes``      uint8 [N, K*bits/8]         weight codes, packed low bits first
``L/weight.scales``     uint8/16/32 [N, K/block]    scale codes; likewise every other part of the format's layout
``L/activation.*``      the same, [rows, ...]       sample activations as codes, where captured
``L/reference``         float32 [rows, N]           output of the unquantised layer on the same rows, without bias
======================  ==========================  =====================================================

The metadata key ``hwsim`` holds JSON: bundle version, model, method, seed, source hash, the full rules of each format,
``k`` (without padding) and ``k_padded`` of each layer, and the SHA-256 of every tensor; ``hwsim_sha256`` holds the
SHA-256 of that JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hwsim.files import replacing
from hwsim.formats import registry
from hwsim.formats.codec import Encoded
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.format import ANY, Format, Part
from hwsim.formats.packing import Order, pack, unpack

VERSION = 2
_OWN_KEYS = {"bundle_version", "formats", "layers", "sha256"}


class BundleError(ValueError):
    """A bundle cannot be read: the message names the file and what is wrong in it."""


@dataclass(frozen=True)
class Layer:
    """Hold one layer of a bundle.

    Attributes
    ----------
    name : str
        Name in the network.
    k : int
        Length of the dot products without padding; codes beyond it are zero codes.
    weight : Encoded
        [N, K padded].
    activation : Encoded or None
        Sample rows, [rows, K padded].
    reference : float32 [rows, N] or None
        Output of the unquantised layer for those rows, without bias.
    """

    name: str
    k: int
    weight: Encoded
    activation: Encoded | None = None
    reference: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for role, encoded in (("weight", self.weight), ("activation", self.activation)):
            if encoded is not None and (len(encoded.shape) != 2 or encoded.axis not in (-1, 1) or encoded.padding):
                raise ValueError(
                    f"layer {self.name}: {role} must be [rows, K] with blocks along its last axis, not "
                    f"{list(encoded.shape)} of axis {encoded.axis} with padding {encoded.padding}"
                )
        if type(self.k) is not int or not 1 <= self.k <= self.weight.k:
            raise ValueError(f"layer {self.name}: k = {self.k!r} must be an integer in 1 .. {self.weight.k} (k padded)")
        if self.activation is not None and self.activation.k != self.weight.k:
            raise ValueError(f"layer {self.name}: activations have K = {self.activation.k}, weights {self.weight.k}")
        if self.reference is not None:
            rows = None if self.activation is None else self.activation.shape[0]
            shape = (rows, self.weight.shape[0])
            if self.reference.shape != shape or self.reference.dtype != np.float32:
                raise ValueError(
                    f"layer {self.name}: reference must be float32 {list(shape)}, "
                    f"not {self.reference.dtype} {list(self.reference.shape)}"
                )


@dataclass(frozen=True)
class Bundle:
    """Hold quantised layers and how they came about (`meta`: model, format, method, seed, source_sha256, ...)."""

    layers: tuple[Layer, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def layer(self, name: str) -> Layer:
        """Return the layer of that name.

        Raises
        ------
        ValueError
            When there is none; the message lists those there are.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"no layer {name!r} in the bundle; it holds {', '.join(layer.name for layer in self.layers)}")


def write_bundle(path: str | Path, bundle: Bundle) -> None:
    """Write a bundle aside and rename it into place, so that no reader ever sees half of one.

    Raises
    ------
    ValueError
        When two layers share a name, a format is not the catalogue's, or `meta` uses a key of ours.
    OSError
        When the file cannot be written, because the disk is full for example.
    """
    if taken := sorted(_OWN_KEYS & set(bundle.meta)):
        raise ValueError(f"{path}: meta key {taken[0]!r} is one that the bundle itself writes")
    tensors: dict[str, NDArray[Any]] = {}
    used: dict[str, Format] = {}
    names: set[str] = set()
    for layer in bundle.layers:
        if layer.name in names:
            raise ValueError(f"two layers of the bundle are called {layer.name!r}")
        names.add(layer.name)
        for role, encoded in (("weight", layer.weight), ("activation", layer.activation)):
            if encoded is not None:
                used[encoded.format.name] = _catalogued(encoded.format, layer.name)
                tensors.update(_encoded_tensors(f"{layer.name}/{role}", encoded))
        if layer.reference is not None:
            tensors[f"{layer.name}/reference"] = np.ascontiguousarray(layer.reference)
    text = json.dumps(
        {
            "bundle_version": VERSION,
            **bundle.meta,
            "formats": {name: spec.rules() for name, spec in used.items()},
            "layers": [_entry(layer) for layer in bundle.layers],
            "sha256": {name: _digest(tensor) for name, tensor in tensors.items()},
        }
    )
    try:
        with replacing(path) as aside:
            save_file(tensors, aside, metadata={"hwsim": text, "hwsim_sha256": _text_digest(text)})
    except (SafetensorError, OSError) as error:  # a full disk is a SafetensorError
        raise OSError(f"{path}: the bundle cannot be written: {error}") from error


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check all of it: version, rules, shapes, code ranges, and the hash of every tensor.

    Raises
    ------
    BundleError
        When the file is missing, truncated, altered, of another version, or its rules are not those of this catalogue;
        the message names the file and the key.
    """
    path = Path(path)
    if path.is_dir():
        raise BundleError(f"{path}: is a folder, not a bundle")
    try:
        with safe_open(str(path), framework="numpy") as file:
            own = file.metadata() or {}
            tensors = {}
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensors[name] = file.get_tensor(name)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: no such bundle") from error
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path}: not a readable bundle (truncated or altered): {error}") from error
    if "hwsim" not in own:
        raise BundleError(f"{path}: no metadata key 'hwsim'; this is not a bundle")
    try:
        meta = json.loads(own["hwsim"])
        if meta.get("bundle_version") != VERSION:
            raise BundleError(f"{path}: bundle_version is {meta.get('bundle_version')!r}, this code reads {VERSION}")
        _check_hashes(path, meta, tensors)
        _check_rules(path, meta)
        layers = tuple(_read_layer(path, entry, tensors) for entry in meta["layers"])
        _check_complete(path, layers, tensors)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BundleError(f"{path}: metadata key 'hwsim' was altered: {type(error).__name__} {error}") from error
    if _text_digest(own["hwsim"]) != own.get("hwsim_sha256"):  # last, so that the checks above name the key
        raise BundleError(f"{path}: metadata key 'hwsim' was altered (its SHA-256 is not the recorded one)")
    kept = {key: value for key, value in meta.items() if key not in _OWN_KEYS}
    return Bundle(layers, kept)


def _catalogued(spec: Format, layer: str) -> Format:
    if registry.get(spec.name) != spec:
        raise ValueError(f"layer {layer}: {spec.name!r} is not the catalogue's format of that name")
    return spec


def _entry(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "k": layer.k,
        "k_padded": layer.weight.k,
        "weight_rows": layer.weight.shape[0],
        "activation_rows": layer.activation.shape[0] if layer.activation is not None else None,
        "weight": layer.weight.format.name,
        "activation": layer.activation.format.name if layer.activation is not None else None,
    }


def _encoded_tensors(prefix: str, encoded: Encoded) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    for part in encoded.format.layout(encoded.shape):
        array = np.atleast_1d(encoded.parts[part.name])
        narrow = array.dtype.kind == "u" and part.bits < 8 * array.dtype.itemsize
        tensors[f"{prefix}.{part.name}"] = np.ascontiguousarray(
            pack(array, part.bits, _order(encoded.format, part)) if narrow else array
        )
    return tensors


def _order(spec: Format, part: Part) -> Order:
    """Return the order in which the codes of a part are packed: only 4-bit element codes have a rule of their own."""
    if isinstance(spec, BlockSpec) and part.name == "codes" and part.bits == 4:
        return spec.nibble_order
    return "low_first"


def _digest(tensor: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{tensor.dtype.str} {tensor.shape}".encode())
    digest.update(np.ascontiguousarray(tensor).view(np.uint8).data)
    return digest.hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_hashes(path: Path, meta: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    expected = meta.get("sha256", {})
    if set(expected) != set(tensors):
        odd = sorted(set(expected) ^ set(tensors))
        raise BundleError(f"{path}: tensors and their recorded hashes differ at {odd[0]!r}")
    for name, tensor in tensors.items():
        if _digest(tensor) != expected[name]:
            raise BundleError(f"{path}: tensor {name!r} was altered (its SHA-256 is not the recorded one)")


def _check_rules(path: Path, meta: dict[str, Any]) -> None:
    formats = meta.get("formats", {})
    used = {entry[role] for entry in meta["layers"] for role in ("weight", "activation") if entry[role]}
    if missing := sorted(used - set(formats)):
        raise BundleError(f"{path}: formats: the rules of {missing[0]} are missing")
    for name, rules in formats.items():
        try:
            own = json.loads(json.dumps(registry.get(name).rules()))
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from error
        for key in sorted(set(own) | set(rules)):
            if own.get(key) != rules.get(key):
                raise BundleError(
                    f"{path}: format {name}: rule {key!r} is {rules.get(key)!r} in the bundle, {own.get(key)!r} here"
                )


def _check_complete(path: Path, layers: tuple[Layer, ...], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a bundle without layers, with a layer twice, or with tensors that belong to none."""
    names = [layer.name for layer in layers]
    if not names:
        raise BundleError(f"{path}: layers: the bundle holds none")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BundleError(f"{path}: layers: {twice[0]!r} stands twice")
    if odd := sorted(name for name in tensors if name.rpartition("/")[0] not in names):
        raise BundleError(f"{path}: tensor {odd[0]!r} belongs to no layer")


def _read_layer(path: Path, entry: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Layer:
    name = entry.get("name", "?")
    try:
        return Layer(
            name,
            entry["k"],
            _read_encoded(f"{name}/weight", entry["weight"], (entry["weight_rows"], entry["k_padded"]), tensors),
            _read_encoded(
                f"{name}/activation", entry["activation"], (entry["activation_rows"], entry["k_padded"]), tensors
            )
            if entry["activation"]
            else None,
            tensors.get(f"{name}/reference"),
        )
    except KeyError as error:
        raise BundleError(f"{path}: layer {name}: key {error} is missing") from error
    except ValueError as error:
        raise BundleError(f"{path}: layer {name}: {error}") from error


def _read_encoded(
    prefix: str, format_name: str, shape: tuple[int, int], tensors: Mapping[str, NDArray[Any]]
) -> Encoded:
    spec = registry.get(format_name)
    parts = {}
    for part in spec.layout(shape):
        array = tensors[f"{prefix}.{part.name}"]
        if part.dtype.kind == "u" and part.bits < 8 * part.dtype.itemsize:
            length = part.shape[-1] if part.shape[-1] != ANY else None
            try:
                array = unpack(array, part.bits, _order(spec, part), count=length)
            except ValueError as error:
                raise ValueError(f"{part.name} do not fit rows and k_padded = {shape}: {error}") from error
        parts[part.name] = array.reshape(()) if part.shape == () else array
    return Encoded(spec, parts, shape)
