"""What a code means: number formats as data, their encoder and decoder, packing, and layer bundles."""

from hwsim.formats.codec import Encoded, decode, decode_scales, encode
from hwsim.formats.packing import pack, unpack
from hwsim.formats.registry import element, element_names, get, names
from hwsim.formats.spec import BlockSpec, ElementSpec, FloatSpec, IntSpec

__all__ = [
    "BlockSpec",
    "ElementSpec",
    "Encoded",
    "FloatSpec",
    "IntSpec",
    "decode",
    "decode_scales",
    "element",
    "element_names",
    "encode",
    "get",
    "names",
    "pack",
    "unpack",
]
