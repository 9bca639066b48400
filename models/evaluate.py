"""Perplexity of a causal language model over whole windows of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from models.load import LoadedModel
from models.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK_ROWS = 128  # rows of log-softmax at once: 25 MB in float32 at a vocabulary of 49,152


def token_windows(tokenizer: PreTrainedTokenizerBase, text: Text, tokens: int, window: int = 1024) -> Tensor:
    """Cut the first tokens of a text into whole windows.

    No special tokens are added: the windows are consecutive pieces of one token sequence.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The model's tokeniser.
    text : Text
        Usually `default_text().evaluation` or `.calibration`.
    tokens : int
        Tokens asked for; the remainder after the last whole window is left out.
    window : int
        Tokens in a window, at least 2.

    Returns
    -------
    Tensor
        int64 [tokens // window, window].

    Raises
    ------
    ValueError
        `tokens` is less than one window, or the text has fewer tokens than that.

    Examples
    --------
    >>> class Letters:
    ...     def __call__(self, text, **options):
    ...         return {"input_ids": [ord(letter) for letter in text]}
    >>> token_windows(Letters(), Text("abcdefg"), tokens=6, window=3).tolist()
    [[97, 98, 99], [100, 101, 102]]
    """
    if window < 2:
        raise ValueError(f"window of {window} tokens, expected at least 2: one to read and one to predict")
    if tokens < window:
        raise ValueError(f"{tokens} tokens asked for, expected at least one window of {window}")
    count = tokens // window
    codes = tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(codes) < count * window:
        raise ValueError(f"{text.source} has {len(codes)} tokens, fewer than the {count * window} asked for")
    return torch.tensor(codes[: count * window], dtype=torch.int64).view(count, window)


def perplexity(model: LoadedModel, windows: Tensor, progress: Callable[[int, int], None] | None = None) -> float:
    """Return exp of the mean negative log-likelihood of every next token.

    Each window is run alone, without context from the one before, so it predicts `window - 1` tokens.

    Parameters
    ----------
    model : LoadedModel
        A causal language model; layers put in by `models.linear.replaced` are used.
    windows : Tensor
        int64 [n, window], from `token_windows`.
    progress : callable, optional
        Called with (windows done, windows in all) before the first and after each.

    Returns
    -------
    float
        Perplexity; infinity or NaN if the model's outputs are.

    Raises
    ------
    ValueError
        Not a causal LM, no windows, or windows longer than the model's context.

    Exactness
    ---------
    Log-softmax in float32, the sum over tokens in float64.
    """
    _check(model, windows)
    device = next(model.module.parameters()).device
    total = torch.zeros((), dtype=torch.float64)
    count, window = windows.shape
    for index in range(count):
        if progress is not None and index == 0:
            progress(0, count)
        total += _window_nll(model, windows[index].to(device))
        if progress is not None:
            progress(index + 1, count)
    mean = float(total) / (count * (window - 1))
    return math.exp(mean) if not mean > 700 else math.inf


def _window_nll(model: LoadedModel, tokens: Tensor) -> Tensor:
    """Return the summed negative log-likelihood of tokens[1:], float64, in nats."""
    total = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        logits = model.module(input_ids=tokens[None], use_cache=False).logits[0, :-1]
        targets = tokens[1:]
        for start in range(0, len(targets), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            losses = functional.cross_entropy(logits[rows].float(), targets[rows], reduction="none")
            total += losses.double().sum().cpu()
    return total


def _check(model: LoadedModel, windows: Tensor) -> None:
    """Raise ValueError unless `perplexity` is defined for these arguments."""
    if model.kind != "causal_lm":
        raise ValueError(f"{model.name} is of kind {model.kind!r}; perplexity needs a 'causal_lm'")
    if windows.ndim != 2 or windows.dtype != torch.int64 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise ValueError(f"windows are {windows.dtype} {list(windows.shape)}, expected int64 [n >= 1, window >= 2]")
    longest = model.facts.get("max_position_embeddings")
    if isinstance(longest, int) and windows.shape[1] > longest:
        raise ValueError(f"windows of {windows.shape[1]} tokens, but {model.name} takes at most {longest}")
