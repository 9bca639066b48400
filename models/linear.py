"""The matrix multiplications of a network: list them, put other arithmetic in their place, record their inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from models.load import LoadedModel

Matmul = Callable[[Tensor], Tensor]
"""What stands in for a linear layer: float32 [..., K] -> float32 [..., N], bias included."""


def linear_layers(model: LoadedModel) -> dict[str, nn.Linear]:
    """Return the linear layers by name, in the order in which a forward pass first runs them.

    An LM head whose weight is shared with the embedding is listed like any other; `replaced` leaves the embedding as
    it is. Layers that the pass does not reach come last, in the order of their definition.

    Examples
    --------
    `smollm2` gives 30 blocks x 7 matrices (q, k, v, o, gate, up, down) and `lm_head`: 211.
    """
    layers = {name: module for name, module in model.module.named_modules() if isinstance(module, nn.Linear)}
    seen: dict[str, nn.Linear] = {}
    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(_note(seen, name)).remove)
        _run_smallest(model)
    return seen | layers


def left_alone(model: LoadedModel) -> dict[str, str]:
    """Return the modules with weight matrices that `linear_layers` does not list, each with its reason.

    Examples
    --------
    `smollm2` gives `{"model.embed_tokens": "Embedding, 49152 x 576, shared with lm_head"}`.
    """
    owners: dict[int, str] = {id(layer.weight): name for name, layer in linear_layers(model).items()}
    report = {}
    for name, module in model.module.named_modules():
        for weight in module.parameters(recurse=False):
            if weight.ndim >= 2 and not isinstance(module, nn.Linear):
                shape = " x ".join(str(size) for size in weight.shape)
                shared = f", shared with {owners[id(weight)]}" if id(weight) in owners else ""
                report[name] = f"{type(module).__name__}, {shape}{shared}"
    return report


@contextlib.contextmanager
def replaced(model: LoadedModel, functions: Mapping[str, Matmul]) -> Iterator[LoadedModel]:
    """Route the forward pass of named layers through given functions, until the context ends.

    No weight changes: the function takes the layer's place with its input as argument, and has to add the layer's
    bias itself. The layers' own forward comes back at the end, after an exception as well; contexts may be nested.

    Parameters
    ----------
    model : LoadedModel
        The network.
    functions : mapping of str to callable
        By name in `linear_layers`: float32 [..., K] -> float32 [..., N].

    Raises
    ------
    ValueError
        A name is not that of a linear layer (nothing is replaced then); or, in the forward pass, a function's result
        has the wrong shape or type.
    """
    layers = _named(model, functions)
    with contextlib.ExitStack() as restore:
        for name, function in functions.items():
            restore.callback(_set_forward(layers[name], _checked(name, layers[name], function)))
        yield model


def capture_inputs(
    model: LoadedModel, names: Iterable[str], windows: Tensor, rows: int, seed: int
) -> dict[str, Tensor]:
    """Record a sample of the real input rows of layers in a forward pass over windows of tokens.

    The sample is drawn once, so row i belongs to the same token in every layer.

    Parameters
    ----------
    model : LoadedModel
        A network that reads tokens.
    names : iterable of str
        Layers, by name in `linear_layers`.
    windows : Tensor
        int64 [n, window], from `models.evaluate.token_windows`.
    rows : int
        Rows to keep a layer, 1 to n * window; drawn without replacement, in the order of the text.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict of str to Tensor
        float32 [rows, K] on the CPU, in the order of `names`.

    Raises
    ------
    ValueError
        Unknown layer, a model that does not read tokens, more rows than there are, or a layer that the pass does not
        reach or that sees another number of rows than there are tokens (such as a pooler).
    """
    names = list(names)
    layers = _named(model, names)
    if model.kind == "vision":
        raise ValueError(f"{model.name} is of kind 'vision'; inputs are captured from models that read tokens")
    total = windows.numel()
    if not 1 <= rows <= total:
        raise ValueError(f"{rows} rows asked for, but the windows have 1 to {total}")
    window = windows.shape[1]
    drawn = np.sort(np.random.default_rng(seed).choice(total, size=rows, replace=False))
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    device = next(model.module.parameters()).device
    for index, tokens in enumerate(windows):
        mine = drawn[(drawn >= index * window) & (drawn < (index + 1) * window)] - index * window
        if mine.size:
            _capture_window(model, layers, tokens.to(device), torch.from_numpy(mine).to(device), kept)
    _check_reached(kept)
    return {name: torch.cat(parts) for name, parts in kept.items()}


def _capture_window(
    model: LoadedModel, layers: Mapping[str, nn.Linear], tokens: Tensor, wanted: Tensor, kept: dict[str, list[Tensor]]
) -> None:
    """Run one window and append the wanted input rows of each layer to `kept`."""

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].reshape(-1, inputs[0].shape[-1])
            if len(flat) != len(tokens):
                raise ValueError(f"layer {name} sees {len(flat)} rows for a window of {len(tokens)} tokens")
            kept[name].append(flat[wanted].float().cpu())  # indexing copies: the whole input is not kept alive

        return hook

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(keep(name)).remove)
        _run(model, tokens)


def _check_reached(kept: Mapping[str, list[Tensor]]) -> None:
    """Raise ValueError if a layer was never run."""
    missing = [name for name, parts in kept.items() if not parts]
    if missing:
        raise ValueError(f"the forward pass does not reach {', '.join(missing)}")


def _run(model: LoadedModel, tokens: Tensor) -> None:
    """Run one window of tokens through a model that reads tokens."""
    if model.kind == "causal_lm":
        model.module(input_ids=tokens[None], use_cache=False)
    else:
        model.module(input_ids=tokens[None], attention_mask=torch.ones_like(tokens[None]))


def _run_smallest(model: LoadedModel) -> None:
    """Run the cheapest input that passes through the whole network."""
    first = next(model.module.parameters())
    if model.kind == "vision":
        config = getattr(model.module, "config", None)
        size = getattr(config, "image_size", 32)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        channels = getattr(config, "num_channels", 3)
        model.module(torch.zeros(1, channels, height, width, device=first.device))
    else:
        _run(model, torch.zeros(2, dtype=torch.int64, device=first.device))


def _named(model: LoadedModel, names: Iterable[str]) -> dict[str, nn.Linear]:
    """Return the linear layers of these names, or raise ValueError."""
    modules = dict(model.module.named_modules())
    found = {}
    for name in names:
        layer = modules.get(name)
        if not isinstance(layer, nn.Linear):
            legal = [other for other, module in modules.items() if isinstance(module, nn.Linear)]
            shown = ", ".join(legal[:8]) + (f", ... ({len(legal)} in all)" if len(legal) > 8 else "")
            raise ValueError(f"{model.name} has no linear layer {name!r}; it has {shown}")
        found[name] = layer
    return found


def _note(seen: dict[str, nn.Linear], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Return a hook that enters a layer into `seen` the first time it runs."""

    def hook(layer: nn.Module, _: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Linear)
        seen.setdefault(name, layer)

    return hook


def _checked(name: str, layer: nn.Linear, function: Matmul) -> Matmul:
    """Return the function with a check of its result's shape and type."""
    outputs = layer.out_features

    def forward(x: Tensor) -> Tensor:
        y = function(x)
        expected = (*x.shape[:-1], outputs)
        if not isinstance(y, Tensor) or tuple(y.shape) != expected or y.dtype != x.dtype:
            given = f"{y.dtype} {list(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"replacement of {name} returned {given}, expected {x.dtype} {list(expected)}")
        return y

    return forward


def _set_forward(layer: nn.Module, forward: Matmul) -> Callable[[], None]:
    """Give one layer object another forward; return the function that undoes it."""
    earlier = layer.__dict__.get("forward")  # that of an outer context; the class's own is not in the object
    layer.__dict__["forward"] = forward

    def undo() -> None:
        if earlier is None:
            del layer.__dict__["forward"]
        else:
            layer.__dict__["forward"] = earlier

    return undo
