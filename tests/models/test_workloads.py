"""Networks by shape: known sizes, phases, routing, config.json, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwsim.arch.workload import Attention, MatMul, Workload
from hwsim.yaml_file import ConfigError
from models import workloads

IMAGES = ("alexnet", "efficientnet-lite0", "lenet-5", "mobilenet-v2", "resnet-18", "resnet-50", "vgg-7")


def load(name: str, **options: Any) -> Workload:
    return workloads.load(name, **options) if name in IMAGES else workloads.load(name, context=256, **options)


def weights(workload: Workload) -> int:
    """Return the weights of all products; those of a mixture only where tokens go."""
    return sum(o.n * o.k * o.groups * o.repeat for o in workload.operations if isinstance(o, MatMul))


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # as published, without embeddings (the LM head counts), biases and norms
        ("llama-2-7b", 6607), ("llama-2-13b", 12852), ("llama-2-70b", 68713), ("llama-3-8b", 7505),
        ("llama-3-70b", 69503), ("opt-1.3b", 1311), ("opt-6.7b", 6648), ("phi-2", 2648), ("yi-6b", 5799),
        ("mixtral-8x7b", 46571), ("qwen3-0.6b", 596), ("qwen3-8b", 7568), ("smollm2-135m", 134), ("bert-base", 84.9),
        ("vit-b", 86.3), ("deit-s", 21.9), ("resnet-18", 11.7), ("resnet-50", 25.5), ("alexnet", 61.1),
        ("mobilenet-v2", 3.47), ("efficientnet-lite0", 4.61), ("mamba-130m", 128.5), ("mamba-2.8b", 2762),
    ],
)  # fmt: skip
def test_networks_have_their_published_size(name: str, millions: float) -> None:
    assert weights(load(name)) / 1e6 == pytest.approx(millions, rel=0.006)


GIGA_MACS = [
    ("resnet-50", 4.09), ("resnet-18", 1.81), ("mobilenet-v2", 0.30), ("efficientnet-lite0", 0.385), ("alexnet", 0.714),
]  # fmt: skip


@pytest.mark.parametrize(("name", "giga"), GIGA_MACS)
def test_images_take_their_published_macs(name: str, giga: float) -> None:
    assert load(name).macs / 1e9 == pytest.approx(giga, rel=0.01)
    assert load(name, batch=3).macs == 3 * load(name).macs


def test_decode_is_one_token_a_sequence() -> None:
    prefill, decode = (workloads.load("llama-3-8b", phase, 64, 2) for phase in ("prefill", "decode"))
    for many, one in zip(prefill.operations, decode.operations, strict=True):
        if isinstance(many, MatMul):
            assert isinstance(one, MatMul) and many.m == 128 and one.m == 2
        else:
            assert isinstance(one, Attention) and (many.queries, one.queries) == (64, 1)
            assert many.keys == one.keys == 64 and many.sequences == one.sequences == 2


ROUTED = [(3, "prefill", {(1, 6)}), (5, "prefill", {(2, 2), (1, 6)}), (9, "decode", {(1, 2)})]


@pytest.mark.parametrize(("context", "phase", "routed"), ROUTED)
def test_tokens_are_spread_over_experts(context: int, phase: str, routed: set[tuple[int, int]]) -> None:
    """Two of eight experts a token: 6, 10 and 2 choices."""
    found = workloads.load("mixtral-8x7b", phase, context)
    assert {(o.m, o.groups) for o in found.operations if isinstance(o, MatMul) and "up_proj" in o.name} == routed


def test_a_config_json_gives_the_same_shapes(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    config = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    }  # fmt: skip
    file.write_text(json.dumps(config))
    assert workloads.load(str(file), context=16).operations == workloads.load("llama-3-8b", context=16).operations
    vit = {"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
           "intermediate_size": 3072, "image_size": 224, "patch_size": 16, "num_channels": 3,
           "id2label": {str(i): "" for i in range(1000)}}  # fmt: skip
    file.write_text(json.dumps(vit))
    assert workloads.load(str(file)).operations == workloads.load("vit-b").operations
    for change, words in (
        ({"model_type": "rwkv"}, "model_type: must be one of .*, not 'rwkv'"),
        ({"hidden_size": None}, "hidden_size or n_embd: missing key"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: must be a positive integer, not 0"),
        ({"num_attention_heads": 5}, "must divide hidden_size = 4096, not 5"),
    ):
        file.write_text(json.dumps(config | change))
        with pytest.raises(ConfigError, match=words):
            workloads.load(str(file), context=16)
    file.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        workloads.load(str(file), context=16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("llama-9",), "unknown workload 'llama-9'; known: alexnet, "),
        (("llama-2-7b",), "give a context"),
        (("bert-base", "decode", 16), "does not decode"),
        (("resnet-18", "prefill", 16), "images have no context"),
        (("llama-2-7b", "train", 16), "phase must be one of prefill, decode, not 'train'"),
        (("llama-2-7b", "prefill", 0), "context must be 1 or more, not 0"),
        (("gemm:1x2x3", "decode"), "a single product has no context and no phase but prefill"),
        (("gemm:1x2x3", "prefill", 5), "a single product has no context"),
        (("gemm:1x2", "prefill"), "gemm:MxNxK, three positive integers"),
        (("gemm:1x0x2", "prefill"), "gemm:MxNxK, three positive integers"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        workloads.load(*arguments)


def test_every_file_loads_in_every_phase_that_it_has() -> None:
    for name in workloads.names():
        found = load(name)
        assert found.name == name and found.source and found.macs > 0
        assert all(operation.macs > 0 for operation in found.operations)
    (single,) = workloads.load("gemm:3x4x5", batch=2).operations
    assert single == MatMul("gemm", 6, 4, 5)
