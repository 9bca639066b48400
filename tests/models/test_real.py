"""The real networks of the zoo, as fetched from PyPI."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from models import fetch, zoo
from models.linear import linear_layers
from models.load import LoadedModel, LoadError, load


@pytest.mark.parametrize("name", zoo.names())
def test_network_is_that_of_the_catalogue(name: str, request: pytest.FixtureRequest) -> None:
    model: LoadedModel = request.getfixturevalue(name)
    entry = zoo.get(name)
    assert (model.name, model.kind, model.note) == (name, entry.kind, entry.note)
    assert model.facts["parameters"] == entry.parameters
    assert model.weights_sha256 == entry.weights_sha256
    assert entry.requirement in model.source
    assert not model.module.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in model.module.parameters())
    assert (model.tokenizer is None) == (entry.kind == "vision")


def test_smollm2_weights_lie_on_a_q4_1_grid(smollm2: LoadedModel) -> None:
    """Each block of 32 weights of a matrix takes at most 16 values, evenly spaced: what the note says."""
    weight = linear_layers(smollm2)["model.layers.7.mlp.down_proj"].weight
    for block in weight.reshape(-1, 32)[::1000]:
        values = block.unique()
        assert len(values) <= 16
        steps = (values - values[0]) / values.diff().min()
        assert (steps - steps.round()).abs().max() < 1e-3


def test_minilm_puts_like_sentences_together(minilm: LoadedModel) -> None:
    sentences = ["A cat sits on the mat.", "A kitten is sitting on a rug.", "Interest rates rose again last quarter."]
    assert minilm.tokenizer is not None
    batch = minilm.tokenizer(sentences, padding=True, return_tensors="pt")
    hidden = minilm.module(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.5 and likeness[0, 2] < 0.2
    assert len(linear_layers(minilm)) == 37


def test_altered_weights_in_the_cache_are_refused(
    minilm: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch.cache_dir() / "minilm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    copy = shutil.copytree(folder, fetch.cache_dir() / "minilm")
    with (copy / fetch.WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(LoadError, match=r"model.safetensors was altered since minilm was fetched; run `hwsim cache"):
        load("minilm")
