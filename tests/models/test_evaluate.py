"""Windows are whole and in order; perplexity equals transformers' own loss."""

import math

import pytest
import torch

from models.evaluate import perplexity, token_windows
from models.linear import replaced
from models.load import LoadedModel
from models.text import Text, default_text

TEXT = Text("".join(chr(33 + i * i % 90) for i in range(200)), "the test's text")


def test_windows_are_consecutive_tokens_and_the_rest_is_left_out(llama: LoadedModel) -> None:
    assert llama.tokenizer is not None
    windows = token_windows(llama.tokenizer, TEXT, tokens=50, window=16)
    assert windows.dtype == torch.int64 and windows.shape == (3, 16)
    assert windows.flatten().tolist() == llama.tokenizer(TEXT.text)["input_ids"][:48]


@pytest.mark.parametrize(
    ("tokens", "window", "expected"),
    [
        (15, 16, "15 tokens asked for, expected at least one window of 16"),
        (0, 16, "0 tokens asked for"),
        (201, 3, "the test's text has 200 tokens, fewer than the 201 asked for"),
        (10, 1, "window of 1 tokens"),
    ],
)
def test_impossible_windows_are_refused(llama: LoadedModel, tokens: int, window: int, expected: str) -> None:
    assert llama.tokenizer is not None
    with pytest.raises(ValueError, match=expected):
        token_windows(llama.tokenizer, TEXT, tokens, window)


def test_perplexity_is_that_of_transformers_own_loss(llama: LoadedModel) -> None:
    assert llama.tokenizer is not None
    windows = token_windows(llama.tokenizer, TEXT, tokens=192, window=64)
    losses = [llama.module(input_ids=window[None], labels=window[None]).loss.item() for window in windows]
    expected = math.exp(sum(losses) / len(losses))
    assert perplexity(llama, windows) == pytest.approx(expected, rel=1e-6)
    assert perplexity(llama, windows[:1]) != pytest.approx(expected, rel=1e-3)


def test_windows_carry_no_context_and_long_ones_are_chunked(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert llama.tokenizer is not None
    windows = token_windows(llama.tokenizer, TEXT, tokens=192, window=64)
    single = [math.log(perplexity(llama, windows[i : i + 1])) for i in range(3)]
    monkeypatch.setattr("models.evaluate._CHUNK_ROWS", 7)
    assert math.log(perplexity(llama, windows)) == pytest.approx(sum(single) / 3, rel=1e-6)


def test_uniform_output_has_the_vocabulary_as_perplexity(llama: LoadedModel) -> None:
    windows = torch.arange(40).view(2, 20)
    with replaced(llama, {"lm_head": lambda x: x.new_zeros(*x.shape[:-1], 256)}):
        assert perplexity(llama, windows) == pytest.approx(256, rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_outputs_give_no_number(llama: LoadedModel, value: float) -> None:
    with replaced(llama, {"lm_head": lambda x: x.new_full((*x.shape[:-1], 256), value)}):
        assert not math.isfinite(perplexity(llama, torch.arange(40).view(2, 20)))


def test_improbable_text_gives_infinity_not_an_error(llama: LoadedModel) -> None:
    def certain_of_zero(x: torch.Tensor) -> torch.Tensor:
        logits = x.new_full((*x.shape[:-1], 256), -1e6)
        logits[..., 0] = 0
        return logits

    with replaced(llama, {"lm_head": certain_of_zero}):
        assert perplexity(llama, torch.arange(1, 41).view(2, 20)) == math.inf


def test_progress_counts_windows(llama: LoadedModel) -> None:
    calls: list[tuple[int, int]] = []
    perplexity(llama, torch.arange(60).view(3, 20), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        (torch.zeros(0, 8, dtype=torch.int64), r"int64 \[0, 8\]"),
        (torch.zeros(8, dtype=torch.int64), r"int64 \[8\]"),
        (torch.zeros(1, 1, dtype=torch.int64), r"int64 \[1, 1\]"),
        (torch.zeros(1, 8), "float32"),
        (torch.zeros(1, 65, dtype=torch.int64), "windows of 65 tokens, but .* takes at most 64"),
    ],
)
def test_impossible_arguments_are_refused(llama: LoadedModel, windows: torch.Tensor, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        perplexity(llama, windows)


def test_an_encoder_has_no_perplexity(bert: LoadedModel) -> None:
    with pytest.raises(ValueError, match="'encoder'; perplexity needs a 'causal_lm'"):
        perplexity(bert, torch.zeros(1, 8, dtype=torch.int64))


# The references are for the topics of CPython 3.11.7; other versions change some of the tokens.
REFERENCE_TEXT = "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"


@pytest.mark.parametrize(
    ("windows", "expected", "tolerance"),
    [
        pytest.param(1, 12.721, 0.01, id="1x1024"),
        pytest.param(4, 13.1, 0.1, id="4x1024", marks=pytest.mark.slow),
    ],
)
def test_smollm2_in_float32_has_its_reference_perplexity(
    smollm2: LoadedModel, windows: int, expected: float, tolerance: float
) -> None:
    assert smollm2.tokenizer is not None
    text = default_text()
    tokens = token_windows(smollm2.tokenizer, text.evaluation, windows * 1024)
    assert torch.equal(tokens, token_windows(smollm2.tokenizer, text, windows * 1024)), "not the start of the text"
    tolerance = tolerance if text.sha256 == REFERENCE_TEXT else 1.5
    assert perplexity(smollm2, tokens) == pytest.approx(expected, abs=tolerance)
