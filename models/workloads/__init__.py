"""Networks by shape: the matrix products and the attention of a phase, without a weight.

A network is a YAML file of this folder (`transformer.Transformer`, `convolutional.Convolutional`,
`recurrent.Recurrent`), or a config.json as Hugging Face folders hold it. `load` reads any of them; ``gemm:MxNxK`` is
a single product. Nothing here needs torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from hwsim.arch.workload import MatMul, Workload
from hwsim.yaml_file import ConfigError, Strict, load_tagged, locate, stems
from models.workloads.convolutional import Convolutional
from models.workloads.recurrent import Recurrent
from models.workloads.transformer import Transformer

FOLDER = Path(__file__).parent
KINDS: dict[str, type[Strict]] = {
    "transformer": Transformer, "convolutional": Convolutional, "recurrent": Recurrent,
}  # fmt: skip
Phase = Literal["prefill", "decode"]
_GEMM = re.compile(r"gemm:(\d+)x(\d+)x(\d+)")


def names() -> tuple[str, ...]:
    """Return the names of the networks that come with the package, sorted."""
    return stems(FOLDER)


def load(reference: str, phase: str = "prefill", context: int | None = None, batch: int = 1) -> Workload:
    """Return a network in a phase.

    Parameters
    ----------
    reference : str
        A name of `names`, the path of a .yaml file like those of this folder or of a config.json, or ``gemm:MxNxK``.
    phase : {"prefill", "decode"}
        All tokens of the context at once, or one token a sequence after it.
    context : int, optional
        Tokens of a sequence; None takes the length that the file states, where it states one.
    batch : int
        Sequences, or images.

    Raises
    ------
    ConfigError
        When the reference is unknown, or the file cannot be used.
    ValueError
        When the network has no such phase or needs a context; the message names what is given and what is allowed.
    """
    if phase not in get_args(Phase):
        raise ValueError(f"phase must be one of {', '.join(get_args(Phase))}, not {phase!r}")
    for what, value in (("context", context), ("batch", batch)):
        if value is not None and value < 1:
            raise ValueError(f"{what} must be 1 or more, not {value}")
    if reference.startswith("gemm:"):
        if phase != "prefill" or context is not None:
            raise ValueError(f"workload {reference}: a single product has no context and no phase but prefill")
        return _gemm(reference, batch)
    if Path(reference).suffix == ".json":
        from models.workloads.config_json import read_config

        spec: Strict = read_config(Path(reference))
    else:
        spec = load_tagged(locate(reference, FOLDER, "workload"), "kind", KINDS)
    assert isinstance(spec, Transformer | Convolutional | Recurrent)
    return spec.expand(phase, context, batch)


def _gemm(reference: str, batch: int) -> Workload:
    found = _GEMM.fullmatch(reference)
    if found is None or "0" in found.groups():
        raise ConfigError(f"workload {reference!r}: a single product is gemm:MxNxK, three positive integers")
    m, n, k = map(int, found.groups())
    return Workload(reference, "prefill", 0, batch, (MatMul("gemm", m * batch, n, k),), "as given")


__all__ = ["Phase", "Workload", "load", "names"]
