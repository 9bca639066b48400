"""Conversion keeps every weight, undoes GGUF's own orders, and runs no code of a pickle."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from models import convert

HIDDEN, HEADS, KV_HEADS, INNER, VOCAB = 64, 4, 2, 96, 260


def gguf_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """Order rows as GGUF does: rotary pairs (i, i + half) of a head become neighbours, by explicit loops."""
    head = weight.shape[0] // heads
    rows = [h * head + i + part * head // 2 for h in range(heads) for i in range(head // 2) for part in (0, 1)]
    return weight[rows]


def write_gguf(path: Path, architecture: str = "llama", pre: str = "smollm", extra: str = "") -> dict[str, np.ndarray]:
    """Write a one-block Llama in GGUF, a matrix in Q4_1; return its float32 weights by Hugging Face name."""
    import gguf
    from tokenizers import pre_tokenizers

    rng = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    layer = "model.layers.0."
    weights = {
        "model.embed_tokens.weight": draw(VOCAB, HIDDEN),
        "model.norm.weight": draw(HIDDEN),
        layer + "input_layernorm.weight": draw(HIDDEN),
        layer + "post_attention_layernorm.weight": draw(HIDDEN),
        layer + "self_attn.q_proj.weight": draw(HIDDEN, HIDDEN),
        layer + "self_attn.k_proj.weight": draw(HIDDEN // 2, HIDDEN),
        layer + "self_attn.v_proj.weight": draw(HIDDEN // 2, HIDDEN),
        layer + "self_attn.o_proj.weight": draw(HIDDEN, HIDDEN),
        layer + "mlp.gate_proj.weight": draw(INNER, HIDDEN),
        layer + "mlp.up_proj.weight": draw(INNER, HIDDEN),
        layer + "mlp.down_proj.weight": draw(HIDDEN, INNER),
    }
    names = [
        *("token_embd", "output_norm", "blk.0.attn_norm", "blk.0.ffn_norm", "blk.0.attn_q", "blk.0.attn_k"),
        *("blk.0.attn_v", "blk.0.attn_output", "blk.0.ffn_gate", "blk.0.ffn_up", "blk.0.ffn_down"),
    ]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_vocab_size(VOCAB)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_context_length(128)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_token_list(["<end>", "<start>", *letters, "ab", "11"])
    writer.add_token_types([3, 3, *([1] * 258)])
    writer.add_token_merges(["a b", "1 1"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template("{{ messages }}")
    for name, (hf_name, weight) in zip(names, weights.items(), strict=True):
        heads = {"blk.0.attn_q": HEADS, "blk.0.attn_k": KV_HEADS}.get(name)
        stored = weight if heads is None else gguf_rows(weight, heads)
        if name == "blk.0.ffn_up":
            codes = gguf.quantize(stored, gguf.GGMLQuantizationType.Q4_1)
            writer.add_tensor(name + ".weight", codes, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
            weights[hf_name] = gguf.dequantize(codes, gguf.GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(name + ".weight", stored)
    if extra:
        writer.add_tensor(extra, draw(HIDDEN))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_gguf_llama_keeps_weights_and_undoes_the_row_order(tmp_path: Path) -> None:
    weights = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "hf").mkdir()
    convert.gguf_llama(tmp_path / "tiny.gguf", tmp_path / "hf")
    converted = load_file(tmp_path / "hf" / "model.safetensors")
    assert converted.keys() == weights.keys()
    for name, weight in weights.items():
        assert converted[name].dtype == np.float32
        np.testing.assert_array_equal(converted[name], weight, err_msg=name)


def test_converted_folder_loads_and_splits_digits(tmp_path: Path) -> None:
    from models.load import load

    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "hf").mkdir()
    convert.gguf_llama(tmp_path / "tiny.gguf", tmp_path / "hf")
    model = load(str(tmp_path / "hf"))
    assert model.kind == "causal_lm" and model.facts["max_position_embeddings"] == 128
    config: Any = model.module.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.rms_norm_eps) == (4, 2, pytest.approx(1e-5))
    assert config.rope_parameters["rope_theta"] == 10000.0
    tokenizer = model.tokenizer
    assert tokenizer is not None
    # "ab" merges; "11" would merge too, but digits are split off one by one before
    assert tokenizer.tokenize("ab 11") == ["ab", "Ġ", "1", "1"]
    assert tokenizer("<start>é x")["input_ids"][0] == 1
    assert tokenizer.decode(tokenizer("é x\n")["input_ids"]) == "é x\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"architecture": "falcon"}, "architecture 'falcon', only 'llama'"),
        ({"pre": "llama-bpe"}, "pre-tokeniser 'llama-bpe'"),
        ({"extra": "blk.0.attn_q.bias"}, "tensor 'blk.0.attn_q.bias'"),
    ],
)
def test_other_gguf_files_are_refused(tmp_path: Path, options: dict[str, str], expected: str) -> None:
    write_gguf(tmp_path / "other.gguf", **options)
    with pytest.raises((ValueError, KeyError), match=expected):
        convert.gguf_llama(tmp_path / "other.gguf", tmp_path)


def test_state_dict_pickle_keeps_keys_types_and_values(tmp_path: Path) -> None:
    from safetensors.torch import load_file as load_torch

    state = {"a.weight": torch.randn(3, 4).t(), "a.count": torch.tensor(7)}
    torch.save(state, tmp_path / "state.pth")
    convert.state_dict_pickle(tmp_path / "state.pth", tmp_path / "state.safetensors")
    converted = load_torch(tmp_path / "state.safetensors")
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) and converted[key].dtype == state[key].dtype for key in state)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm.done"),))


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Harmful()}, tmp_path / "state.pth")
    with pytest.raises(pickle.UnpicklingError):
        convert.state_dict_pickle(tmp_path / "state.pth", tmp_path / "state.safetensors")
    assert not (tmp_path / "harm.done").exists() and not (tmp_path / "state.safetensors").exists()
