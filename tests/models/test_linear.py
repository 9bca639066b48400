"""Layers are listed in the order they run, replaced without trace, and their inputs are those of the real pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.linear import capture_inputs, left_alone, linear_layers, replaced
from models.load import LoadedModel

WINDOWS = torch.randint(0, 256, (3, 20), generator=torch.Generator().manual_seed(5))
BLOCK = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
BLOCK += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def logits(model: LoadedModel) -> Tensor:
    with torch.no_grad():
        return model.module(input_ids=WINDOWS).logits


def test_layers_come_in_the_order_they_run_and_the_head_is_one(llama: LoadedModel) -> None:
    expected = [f"model.layers.{block}.{name}" for block in range(2) for name in BLOCK] + ["lm_head"]
    assert list(linear_layers(llama)) == expected
    assert linear_layers(llama)["lm_head"].weight is llama.module.get_input_embeddings().weight
    assert left_alone(llama) == {"model.embed_tokens": "Embedding, 256 x 48, shared with lm_head"}


def test_order_is_that_of_running_not_of_definition() -> None:
    class Swapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.last, self.first = (torch.nn.Linear(3, 3) for _ in range(3))

        def forward(self, images: Tensor) -> Tensor:
            return self.last(self.first(images.mean(dim=(-2, -1))))

    model = LoadedModel("swapped", "vision", Swapped(), None, "", "", "", {})
    assert list(linear_layers(model)) == ["first", "last", "unused"]


def test_the_same_arithmetic_in_place_changes_nothing(llama: LoadedModel) -> None:
    before = logits(llama)
    layers = linear_layers(llama)
    with replaced(llama, {name: lambda x, layer=layer: x @ layer.weight.T for name, layer in layers.items()}) as same:
        assert same is llama
        torch.testing.assert_close(logits(llama), before)


def test_every_replacement_is_used_and_all_are_undone(llama: LoadedModel) -> None:
    before = logits(llama)
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, outputs: int, x: Tensor) -> Tensor:
        shapes[name] = tuple(x.shape)
        return x.new_zeros(*x.shape[:-1], outputs)

    layers = linear_layers(llama)
    functions = {name: lambda x, n=name, o=layer.out_features: note(n, o, x) for name, layer in layers.items()}
    with replaced(llama, functions):
        assert not logits(llama).any()
    assert shapes.keys() == layers.keys()
    assert all(shapes[name] == (3, 20, layer.in_features) for name, layer in layers.items())
    assert torch.equal(logits(llama), before)
    assert not any("forward" in vars(layer) for layer in layers.values())


def test_replacing_the_tied_head_leaves_the_embedding(llama: LoadedModel) -> None:
    embedding = llama.module.get_input_embeddings().weight.clone()
    hidden: list[Tensor] = []
    with replaced(llama, {"lm_head": lambda x: hidden.append(x) or functional.linear(x, torch.ones(256, 48))}):
        assert (logits(llama).std(dim=-1) < 1e-4).all()
    with torch.no_grad():
        expected = llama.module.model(input_ids=WINDOWS).last_hidden_state
    assert torch.equal(hidden[0], expected)
    assert torch.equal(llama.module.get_input_embeddings().weight, embedding)


def test_layers_come_back_after_an_exception_and_contexts_nest(llama: LoadedModel) -> None:
    before = logits(llama)
    ones = {"lm_head": lambda x: x.new_ones(*x.shape[:-1], 256)}
    twos = {"lm_head": lambda x: x.new_full((*x.shape[:-1], 256), 2.0)}
    with pytest.raises(RuntimeError, match="in the middle"), replaced(llama, ones):
        with replaced(llama, twos):
            assert (logits(llama) == 2).all()
        assert (logits(llama) == 1).all()
        raise RuntimeError("in the middle")
    assert torch.equal(logits(llama), before)


def test_unknown_layers_are_named_and_nothing_is_replaced(llama: LoadedModel) -> None:
    before = logits(llama)
    zero = {"lm_head": lambda x: x.new_zeros(*x.shape[:-1], 256), "model.norm": lambda x: x}
    with pytest.raises(ValueError, match=r"no linear layer 'model.norm'; it has .*q_proj.*15 in all"):
        replaced(llama, zero).__enter__()
    assert torch.equal(logits(llama), before)


@pytest.mark.parametrize(
    ("result", "given"),
    [
        (lambda x: x, r"torch.float32 \[3, 20, 48\]"),
        (lambda x: x.new_zeros(3, 20, 256).double(), "torch.float64"),
        (lambda x: None, "NoneType"),
    ],
    ids=["shape", "type", "nothing"],
)
def test_wrong_results_are_refused(llama: LoadedModel, result: object, given: str) -> None:
    expected = rf"replacement of lm_head returned {given}.*expected torch.float32 \[3, 20, 256\]"
    with replaced(llama, {"lm_head": result}), pytest.raises(ValueError, match=expected):  # type: ignore[dict-item]
        logits(llama)


def test_captured_rows_are_inputs_of_the_real_pass(llama: LoadedModel) -> None:
    seen: dict[str, list[Tensor]] = {}
    names = ["lm_head", "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.q_proj"]
    for window in WINDOWS:
        for name in names:
            layer = linear_layers(llama)[name]
            hook = layer.register_forward_pre_hook(lambda _, args, n=name: seen.setdefault(n, []).append(args[0][0]))
            with torch.no_grad():
                llama.module(input_ids=window[None])
            hook.remove()
    everything = capture_inputs(llama, names, WINDOWS, rows=60, seed=0)
    assert list(everything) == names
    for name in names:
        torch.testing.assert_close(everything[name], torch.cat(seen[name]))
    sample = capture_inputs(llama, names, WINDOWS, rows=11, seed=0)
    places = [
        [row for row in range(60) if torch.equal(everything[name][row], picked)]
        for name in names[1:]
        for picked in sample[name]
    ]
    chosen = [rows[0] for rows in places]
    assert all(len(rows) == 1 for rows in places), "rows of a real pass differ"
    assert chosen[:11] == chosen[11:] == sorted(set(chosen)), "not the same tokens in each layer, each once, in order"


def test_captured_samples_follow_the_seed_and_are_plain_tensors(llama: LoadedModel) -> None:
    def take(seed: int) -> Tensor:
        return capture_inputs(llama, ["model.layers.1.self_attn.o_proj"], WINDOWS, rows=8, seed=seed)[
            "model.layers.1.self_attn.o_proj"
        ]

    assert torch.equal(take(1), take(1)) and not torch.equal(take(1), take(2))
    assert take(1).dtype == torch.float32 and take(1).shape == (8, 48) and not take(1).is_inference()


def test_impossible_captures_are_refused(llama: LoadedModel, bert: LoadedModel) -> None:
    for rows in (0, 61):
        with pytest.raises(ValueError, match=f"{rows} rows asked for, but the windows have 1 to 60"):
            capture_inputs(llama, ["lm_head"], WINDOWS, rows=rows, seed=0)
    with pytest.raises(ValueError, match="no linear layer 'head'"):
        capture_inputs(llama, ["head"], WINDOWS, rows=1, seed=0)
    with pytest.raises(ValueError, match=r"layer pooler.dense sees 1 rows for a window of 20 tokens"):
        capture_inputs(bert, ["pooler.dense"], WINDOWS, rows=1, seed=0)
    assert not any(layer._forward_pre_hooks for layer in linear_layers(bert).values()), "a hook was left behind"


def test_encoder_inputs_are_captured_too(bert: LoadedModel) -> None:
    name = "encoder.layer.0.output.dense"
    assert capture_inputs(bert, [name], WINDOWS, rows=5, seed=0)[name].shape == (5, 64)


def test_smollm2_has_210_block_matrices_and_the_head(smollm2: LoadedModel) -> None:
    layers = linear_layers(smollm2)
    assert list(layers) == [f"model.layers.{block}.{name}" for block in range(30) for name in BLOCK] + ["lm_head"]
    assert len(layers) == 211
    assert tuple(layers["lm_head"].weight.shape) == (49152, 576)
    assert left_alone(smollm2) == {"model.embed_tokens": "Embedding, 49152 x 576, shared with lm_head"}
