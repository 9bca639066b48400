"""Streaming Walsh-Hadamard transform: the hardware of :mod:`hwsim.pe.hadamard`."""

from __future__ import annotations

from hwsim.pe.hadamard import Params
from rtl.lib.elastic_stream import ElasticStream
from rtl.lib.walsh_hadamard import WalshHadamard


class Hadamard(ElasticStream):
    """Walsh-Hadamard transform of integers or FP16 numbers.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports: see :class:`rtl.lib.elastic_stream.ElasticStream`; exactness and hardware:
    :class:`rtl.lib.walsh_hadamard.WalshHadamard`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, WalshHadamard(params))


COMPONENT = Hadamard
