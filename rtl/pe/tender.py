"""Unit for groups of channels under power-of-two scales: the hardware of :mod:`hwsim.pe.tender`."""

from __future__ import annotations

from hwsim.pe.tender import Params
from rtl.lib.elastic import ElasticDot


class Tender(ElasticDot):
    """Integers in groups of channels; the exact sum doubles from group to group and is scaled at the end.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = Tender
