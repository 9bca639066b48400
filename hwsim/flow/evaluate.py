"""Perplexity three ways: the float network, decoded operands in float (fake quantisation), and codes on the unit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwsim import pe
from hwsim.flow.progress import Reporter
from hwsim.flow.quantise import QuantisedNetwork, quantise_network

if TYPE_CHECKING:
    import torch

    from hwsim.formats import Format
    from models.load import LoadedModel
    from models.text import Text
    from quant.linear import Gemm

WINDOW = 1024
"""Tokens a window; every mode sees the same windows, each without context from the one before."""


@dataclass(frozen=True)
class Evaluation:
    """Hold one row of an evaluation; perplexities are over the same windows in all three modes."""

    model: str
    weights_note: str
    format: str
    method: str
    pe: str
    pe_params: dict[str, Any]
    tokens: int
    window: int
    text_sha256: str
    source_sha256: str
    linear_layers: int
    bits_per_weight: float
    weight_sqnr_db: float
    float_ppl: float
    fakequant_ppl: float
    datapath_ppl: float

    @property
    def datapath_minus_fakequant_ppl(self) -> float:
        """What the unit's arithmetic adds to (or takes from) the perplexity of fake quantisation."""
        return self.datapath_ppl - self.fakequant_ppl

    def row(self) -> dict[str, Any]:
        """Return the evaluation as plain data."""
        return {"name": self.format, **asdict(self), "datapath_minus_fakequant_ppl": self.datapath_minus_fakequant_ppl}


def float_perplexity(loaded: LoadedModel, windows: torch.Tensor, reporter: Reporter) -> float:
    """Return the perplexity of the unquantised network.

    Raises
    ------
    ValueError
        When the network does not predict tokens.
    """
    from models.evaluate import perplexity

    check_predicts_tokens(loaded)
    with reporter.bars() as bars:
        task = bars.add_task("perplexity, float32", total=len(windows))
        return _finite(
            perplexity(loaded, windows, progress=lambda done, _: bars.update(task, completed=done)), loaded, "float32"
        )


def _finite(value: float, loaded: LoadedModel, label: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the perplexity of {loaded.name}, {label}, is not finite ({value}): its outputs overflow")
    return value


def check_predicts_tokens(loaded: LoadedModel) -> None:
    """Refuse a network that has no perplexity."""
    if loaded.kind != "causal_lm":
        raise ValueError(
            f"perplexity is not defined for {loaded.name} ({loaded.kind}); "
            "give a network that predicts tokens, such as smollm2"
        )
    if loaded.tokenizer is None:
        raise ValueError(f"{loaded.name} comes without a tokeniser, which perplexity on text needs")


def quantised_perplexity(
    loaded: LoadedModel,
    network: QuantisedNetwork,
    gemm: Gemm,
    windows: torch.Tensor,
    label: str,
    reporter: Reporter,
    activation: Format | None = None,
) -> float:
    """Return the perplexity with every linear layer's product taken over by `gemm` on codes.

    Activations are of the format that goes with that of the weights, unless one is given.
    """
    from models.evaluate import perplexity
    from models.linear import linear_layers, replaced
    from quant.linear import QuantizedLinear

    layers = linear_layers(loaded)
    steps = len(windows) * len(layers)
    with reporter.bars() as bars:
        task = bars.add_task(f"perplexity, {label}", total=steps)

        def counted(name: str, layer: QuantizedLinear, x: Any) -> Any:
            try:
                result = layer(x)
            except ValueError as error:
                raise ValueError(f"layer {name}, input: {error}") from error
            bars.advance(task)
            return result

        functions = {
            name: partial(counted, name, QuantizedLinear(weight, gemm, layers[name].bias, activation))
            for name, weight in network.weights.items()
        }
        with replaced(loaded, functions):
            return _finite(perplexity(loaded, windows), loaded, label)


def evaluate(
    loaded: LoadedModel,
    fmt: str,
    windows: torch.Tensor,
    text_sha256: str,
    reporter: Reporter,
    *,
    method: str = "rtn",
    pe_name: str | None = None,
    float_ppl: float | None = None,
    network: QuantisedNetwork | None = None,
) -> Evaluation:
    """Quantise all linear layers and measure perplexity three ways.

    Parameters
    ----------
    loaded : LoadedModel
        A network that predicts tokens.
    fmt, method : str
        Weight format (its activation format follows) and quantisation method.
    windows : int64 [windows, tokens]
        Evaluation tokens.
    pe_name : str or None
        Unit; None takes the format's own.
    float_ppl, network
        Results computed before, to be used again.
    """
    from quant.linear import fakequant_gemm

    check_predicts_tokens(loaded)
    unit, params = pe.unit_for(fmt, pe_name)
    if network is None:
        network = quantise_network(loaded, fmt, method, reporter)
    if float_ppl is None:
        float_ppl = float_perplexity(loaded, windows, reporter)
    activation = pe.activation_for(fmt, unit.NAME)
    run = partial(quantised_perplexity, loaded, network, windows=windows, reporter=reporter, activation=activation)
    return Evaluation(
        model=loaded.name,
        weights_note=loaded.note,
        format=fmt,
        method=method,
        pe=unit.NAME,
        pe_params=asdict(params),
        tokens=windows.numel(),
        window=int(windows.shape[1]),
        text_sha256=text_sha256,
        source_sha256=loaded.weights_sha256,
        linear_layers=len(network.weights),
        bits_per_weight=network.bits_per_weight,
        weight_sqnr_db=network.weight_sqnr_db,
        float_ppl=float_ppl,
        fakequant_ppl=run(gemm=fakequant_gemm, label=f"{fmt} fake-quantised"),
        datapath_ppl=run(gemm=partial(unit.gemm, params=params), label=f"{fmt} on {unit.NAME}"),
    )


def text_windows(loaded: LoadedModel, text: Text, tokens: int) -> torch.Tensor:
    """Return the first whole windows of a text as tokens, int64 [tokens // 1024, 1024]."""
    from models.evaluate import token_windows

    check_predicts_tokens(loaded)
    assert loaded.tokenizer is not None
    return token_windows(loaded.tokenizer, text, tokens, WINDOW)


def evaluation_windows(loaded: LoadedModel, text_file: Path | None, tokens: int) -> tuple[torch.Tensor, str]:
    """Return (windows of the evaluation text, SHA-256 of the whole text).

    The default text is split into evaluation and calibration parts; a file is used from its beginning, whole.
    """
    from models.text import default_text, from_file

    if text_file is None:
        text = default_text()
        return text_windows(loaded, text.evaluation, tokens), text.sha256
    text = from_file(text_file)
    return text_windows(loaded, text, tokens), text.sha256


def evaluate_command(
    model: str,
    fmt: str,
    method: str,
    pe_name: str | None,
    text_file: Path | None,
    tokens: int,
    seed: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """Run `hwsim eval`: return its document."""
    from quant import methods

    pe.unit_for(fmt, pe_name)  # cheap checks first: a wrong name should not cost a download
    with reporter.busy("import torch and transformers"):
        methods.method(method)
        from models.load import load
    loaded = load(model, quiet=reporter.quiet)
    windows, text_sha256 = evaluation_windows(loaded, text_file, tokens)
    evaluation = evaluate(loaded, fmt, windows, text_sha256, reporter, method=method, pe_name=pe_name)
    return {**evaluation.row(), "seed": seed}
