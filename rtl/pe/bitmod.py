"""Bit-serial dot products of BitMoD: the hardware of :mod:`hwsim.pe.bitmod`."""

from __future__ import annotations

from hwsim.pe.bitmod import Params
from rtl.lib.bitmod_dot import BitmodDot
from rtl.lib.elastic import ElasticDot


class Bitmod(ElasticDot):
    """FP16 activations, weights as one signed power of two a cycle.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and :class:`rtl.lib.bitmod_dot.BitmodDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)

    def core(self) -> BitmodDot:
        """Return what is wrapped."""
        return BitmodDot(self.params.datapath)


COMPONENT = Bitmod
