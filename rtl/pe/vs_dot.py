"""Dot products under integer scales of vectors: the hardware of :mod:`hwsim.pe.vs_dot`."""

from __future__ import annotations

from hwsim.pe.vs_dot import Params
from rtl.lib.elastic import ElasticDot


class VsDot(ElasticDot):
    """Integer elements under an integer scale a vector on both sides and an FP16 scale a row, FP32 across vectors.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = VsDot
