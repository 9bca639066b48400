"""Integer multiply-accumulate unit: the hardware of :mod:`hwsim.pe.int_mac`."""

from __future__ import annotations

from hwsim.pe.int_mac import Params
from rtl.lib.elastic import ElasticDot


class IntMac(ElasticDot):
    """Integer weights times integer activations, exact sums a group, each group's sum scaled into FP32.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = IntMac
