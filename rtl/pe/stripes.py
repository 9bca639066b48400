"""Bit-serial activations: the hardware of :mod:`hwsim.pe.stripes`."""

from __future__ import annotations

from hwsim.pe.stripes import Params
from rtl.lib.gated_serial import GatedSteps
from rtl.lib.serial_dot import ElasticSerialDot


class StripesSteps(GatedSteps):
    """Bits of activations gate weights."""

    serial = "a"


class Stripes(ElasticSerialDot):
    """Integer weights times bit-serial activations.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, StripesSteps)


COMPONENT = Stripes
