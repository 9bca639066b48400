"""Dot products under shared microexponents: the hardware of :mod:`hwsim.pe.mx9_dot`."""

from __future__ import annotations

from hwsim.pe.mx9_dot import Params
from rtl.lib.elastic import ElasticDot


class Mx9Dot(ElasticDot):
    """Sign and magnitude elements, shifts inside the tree, exact block sums, FP32 across blocks.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath)


COMPONENT = Mx9Dot
