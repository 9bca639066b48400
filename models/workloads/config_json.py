"""Read a network's shape from the config.json of a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwsim.yaml_file import ConfigError
from models.workloads.transformer import Experts, Transformer

GATED = {
    "llama": True, "mistral": True, "mixtral": True, "qwen2": True, "qwen3": True, "gemma": True, "gemma2": True,
    "phi3": True, "phi": False, "opt": False, "gpt2": False, "gpt_neox": False, "bert": False, "vit": False,
    "roberta": False, "deit": False,
}  # fmt: skip
"""Model types that are read, and whether their feed-forward network has a gate."""
ENCODERS = ("bert", "roberta", "vit", "deit")


def read_config(path: Path) -> Transformer:
    """Return the transformer that a config.json describes.

    Raises
    ------
    ConfigError
        When the file cannot be read, the model type is unknown, or a key is missing; the message names the key.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: must hold keys and values")
    kind = config.get("model_type")
    if kind not in GATED:
        raise ConfigError(f"{path}: model_type: must be one of {', '.join(GATED)}, not {kind!r}")

    def whole(*keys: str, default: int | None = None) -> int:
        for key in keys:
            if config.get(key) is not None:
                value = config[key]
                if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                    raise ConfigError(f"{path}: {key}: must be a positive integer, not {value!r}")
                return value
        if default is None:
            raise ConfigError(f"{path}: {' or '.join(keys)}: missing key")
        return default

    hidden, heads = whole("hidden_size", "n_embd"), whole("num_attention_heads", "n_head")
    if config.get("head_dim") is None and hidden % heads:
        raise ConfigError(f"{path}: num_attention_heads: must divide hidden_size = {hidden}, not {heads}")
    image = kind in ("vit", "deit")
    return Transformer(
        kind="transformer",
        name=str(config.get("_name_or_path") or path.parent.name or path.stem),
        source=str(path),
        hidden=hidden,
        layers=whole("num_hidden_layers", "n_layer"),
        heads=heads,
        kv_heads=whole("num_key_value_heads", default=heads),
        head_dim=whole("head_dim", default=hidden // heads),
        ffn=whole("intermediate_size", "ffn_dim", "n_inner", default=4 * hidden if kind == "gpt2" else None),
        gated=GATED[kind],
        vocabulary=0 if image else whole("vocab_size"),
        causal=kind not in ENCODERS,
        tokens=_tokens(config) if image else None,
        experts=_experts(config, whole) if kind == "mixtral" else None,
        patch_values=whole("patch_size") ** 2 * whole("num_channels") if image else 0,
        classes=len(config.get("id2label") or {}) if image else 0,
    )


def _tokens(config: Mapping[str, Any]) -> int:
    """Return patches and class token (two for DeiT with its distillation token, which config.json does not state)."""
    return int(config["image_size"] // config["patch_size"]) ** 2 + 1


def _experts(config: Mapping[str, Any], whole: Any) -> Experts:
    return Experts(count=whole("num_local_experts"), chosen=whole("num_experts_per_tok"))
