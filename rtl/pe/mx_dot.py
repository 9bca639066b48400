"""Dot product of microscaled blocks: the hardware of :mod:`hwsim.pe.mx_dot`."""

from __future__ import annotations

from hwsim.pe.mx_dot import Params
from rtl.lib.elastic import ElasticDot


class MxDot(ElasticDot):
    """Minifloat elements with a scale a block on both sides, exact block sums, FP32 accumulation across blocks.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = MxDot
