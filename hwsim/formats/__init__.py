"""What a code means: number formats as data, their encoders and decoders, packing, and layer bundles."""

from hwsim.formats.codec import Encoded, decode, encode
from hwsim.formats.families.block import BlockSpec, block_size
from hwsim.formats.format import Format
from hwsim.formats.packing import pack, unpack
from hwsim.formats.registry import activation_of, block, element, element_names, get, names
from hwsim.formats.spec import ElementSpec, FloatSpec, IntSpec, TableSpec
from hwsim.formats.values import element_values

__all__ = [
    "BlockSpec",
    "ElementSpec",
    "Encoded",
    "FloatSpec",
    "Format",
    "IntSpec",
    "TableSpec",
    "activation_of",
    "block",
    "block_size",
    "decode",
    "element",
    "element_names",
    "element_values",
    "encode",
    "get",
    "names",
    "pack",
    "unpack",
]
