"""Turn a checkpoint as published into safetensors files, once, when it is fetched.

Loading a GGUF file directly costs seconds of parsing and dequantisation every time, and a pickle may not be read
more often than needed. Both are therefore converted inside the fetch, and only safetensors are ever loaded later.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1
"""Version of what this module writes; a cached model written by another version is fetched again."""

_LLAMA_NAMES = (
    (r"token_embd", "model.embed_tokens"),
    (r"output_norm", "model.norm"),
    (r"blk\.(\d+)\.attn_(q|k|v)", r"model.layers.\1.self_attn.\2_proj"),
    (r"blk\.(\d+)\.attn_output", r"model.layers.\1.self_attn.o_proj"),
    (r"blk\.(\d+)\.ffn_(gate|up|down)", r"model.layers.\1.mlp.\2_proj"),
    (r"blk\.(\d+)\.attn_norm", r"model.layers.\1.input_layernorm"),
    (r"blk\.(\d+)\.ffn_norm", r"model.layers.\1.post_attention_layernorm"),
)
_CONTROL_TOKEN = 3  # tokenizer.ggml.token_type of a special token (gguf.TokenType.CONTROL)


def gguf_llama(source: Path, folder: Path) -> None:
    """Write a Llama GGUF file as a Hugging Face folder of float32 safetensors.

    Parameters
    ----------
    source : Path
        GGUF file: architecture `llama`, embedding shared with the LM head, pre-tokeniser `smollm`.
    folder : Path
        Existing folder; gets config.json, model.safetensors, tokenizer.json and tokenizer_config.json.

    Raises
    ------
    ValueError
        Another architecture, pre-tokeniser, or a tensor that a Llama has not.

    Exactness
    ---------
    Every stored code is dequantised to float32 by the `gguf` package; the weights are exactly those of the file up
    to the one float32 rounding in d * q + m (Q4_1) and d * q (Q8_0).

    Source
    ------
    llama.cpp: gguf-py (names, block types) and convert_hf_to_gguf.py, `LlamaModel.permute` (row order of Q and K).
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(source)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    if fields.get("general.architecture") != "llama":
        raise ValueError(
            f"{source}: architecture {fields.get('general.architecture')!r}, only 'llama' can be converted"
        )
    config = _llama_config(fields)
    tensors = _llama_tensors(reader, config)
    with _plain_os_errors(folder):
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _write_tokenizer(fields, folder)


def state_dict_pickle(source: Path, target: Path) -> None:
    """Write a pickled PyTorch state dict as safetensors; the caller has checked the file's hash.

    Parameters
    ----------
    source : Path
        State dict as `torch.save` writes it; read with `weights_only=True`, which builds tensors and nothing else.
    target : Path
        File to write; keys, shapes, types and values are kept.
    """
    import torch
    from safetensors.torch import save_file

    state = torch.load(source, map_location="cpu", weights_only=True)
    with _plain_os_errors(target):
        save_file({key: value.contiguous() for key, value in state.items()}, target, metadata={"format": "pt"})


@contextlib.contextmanager
def _plain_os_errors(path: Path) -> Iterator[None]:
    """Turn safetensors' own error for a failed write into the OSError that it stands for, such as a full disk."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def _llama_config(fields: dict[str, Any]) -> dict[str, Any]:
    """Return config.json of a LlamaForCausalLM from GGUF metadata."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": fields["llama.vocab_size"],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields["llama.rope.dimension_count"],
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def _llama_tensors(reader: Any, config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the float32 tensors of a GGUF file under their Hugging Face names."""
    from gguf import dequantize

    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    tensors: dict[str, np.ndarray] = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        name = _llama_name(tensor.name)
        rotary = re.search(r"self_attn\.([qk])_proj", name)
        if rotary:
            values = _unpermute(values, heads[rotary[1]])
        tensors[name] = np.ascontiguousarray(values)
    return tensors


def _llama_name(name: str) -> str:
    """Return the Hugging Face name of a GGUF tensor, such as `blk.0.attn_q.weight`."""
    for pattern, replacement in _LLAMA_NAMES:
        found = re.fullmatch(pattern + r"\.weight", name)
        if found:
            return found.expand(replacement) + ".weight"
    raise ValueError(f"tensor {name!r} of the GGUF file has no place in a Llama with tied embeddings and no biases")


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo GGUF's row order of Q and K: it interleaves the two halves of each head that rotate together."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_tokenizer(fields: dict[str, Any], folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json from GGUF metadata.

    The pre-tokeniser `smollm` splits off single digits, then follows GPT-2 (llama.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM).
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pre = fields["tokenizer.ggml.pre"]
    if pre != "smollm":
        raise ValueError(f"pre-tokeniser {pre!r} of the GGUF file is unknown, only 'smollm' can be converted")
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    vocab = {token: code for code, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[fields["tokenizer.ggml.unknown_token_id"]],
        "pad_token": tokens[fields["tokenizer.ggml.padding_token_id"]],
        "chat_template": fields["tokenizer.chat_template"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
