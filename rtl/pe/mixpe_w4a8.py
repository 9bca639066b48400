"""Shift-add unit for INT8 activations: the hardware of :mod:`hwsim.pe.mixpe_w4a8`."""

from __future__ import annotations

from hwsim.pe.mixpe_w4a8 import Params
from rtl.lib.elastic import ElasticDot


class MixpeW4A8(ElasticDot):
    """4-bit weights times INT8 activations by shifts and additions, each group's sum scaled into FP32.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = MixpeW4A8
