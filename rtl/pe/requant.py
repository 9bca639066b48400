"""Requantisation of results: the hardware of :mod:`hwsim.pe.requant`."""

from __future__ import annotations

from hwsim.pe.requant import Params
from rtl.lib.block_encoder import encoder
from rtl.lib.dyadic import Dyadic
from rtl.lib.elastic_stream import ElasticStream


class Requantiser(ElasticStream):
    """FP32 values to codes of a format, or INT32 accumulators to integers.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports: see :class:`rtl.lib.elastic_stream.ElasticStream`; exactness and hardware: :mod:`rtl.lib.block_encoder` and
    :class:`rtl.lib.dyadic.Dyadic`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, Dyadic(params) if params.source == "int32" else encoder(params))


COMPONENT = Requantiser
