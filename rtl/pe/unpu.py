"""Bit-serial weights: the hardware of :mod:`hwsim.pe.unpu`."""

from __future__ import annotations

from hwsim.pe.unpu import Params
from rtl.lib.gated_serial import GatedSteps
from rtl.lib.serial_dot import ElasticSerialDot


class UnpuSteps(GatedSteps):
    """Bits of weights gate activations."""

    serial = "b"


class Unpu(ElasticSerialDot):
    """Bit-serial weights times whole activations.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, UnpuSteps)


COMPONENT = Unpu
