"""Floating multiply-accumulate: the hardware of :mod:`hwsim.pe.fp_fma`."""

from __future__ import annotations

from hwsim.pe.fp_fma import Params
from rtl.lib.elastic import ElasticDot


class FpFma(ElasticDot):
    """One floating product a cycle, added to the sum with one rounding.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = FpFma
