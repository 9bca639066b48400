"""A small network that goes through the whole chain in seconds, and a bundle of its layers."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def network_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a random two-block Llama: K of 48 and 80, so that every block format needs padding."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("network")
    LlamaForCausalLM(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: code for code, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bundle_file(network_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of that network in mxfp4, as `hwsim quantize` writes it."""
    from hwsim.flow.progress import Reporter
    from hwsim.flow.quantise import quantise_to_file

    path = tmp_path_factory.mktemp("bundle") / "network.safetensors"
    quantise_to_file(str(network_folder), "mxfp4", "rtn", path, lambda _: True, "*", 8, None, 3, Reporter(quiet=True))
    return path
