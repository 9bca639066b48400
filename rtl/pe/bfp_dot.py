"""Dot products of block floating point: the hardware of :mod:`hwsim.pe.bfp_dot`."""

from __future__ import annotations

from hwsim.pe.bfp_dot import Params
from rtl.lib.elastic import ElasticDot


class BfpDot(ElasticDot):
    """Sign and magnitude elements under a shared exponent on both sides, exact block sums, FP32 across blocks.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = BfpDot
