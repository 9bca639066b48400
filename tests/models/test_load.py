"""One call loads zoo, folder and hub models; whatever is unsafe, damaged or incomplete is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import fetch
from models.load import LoadedModel, LoadError, load


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_folder_gives_a_frozen_float32_model_with_its_tokeniser(llama_folder: Path) -> None:
    model = load(str(llama_folder))
    assert model.kind == "causal_lm" and model.name == str(llama_folder)
    stored = load_file(llama_folder / "model.safetensors")
    assert all(tensor.dtype == torch.bfloat16 for tensor in stored.values())
    parameters = dict(model.module.named_parameters())
    assert all(parameter.dtype == torch.float32 and not parameter.requires_grad for parameter in parameters.values())
    assert all(torch.equal(parameters[name], tensor.float()) for name, tensor in stored.items())
    assert not model.module.training
    assert model.weights_sha256 == fetch.sha256_of(llama_folder / "model.safetensors")
    assert model.facts["parameters"] == sum(tensor.numel() for tensor in stored.values())
    assert model.facts["hidden_size"] == 48
    assert model.tokenizer is not None and len(model.tokenizer("abc")["input_ids"]) == 3


def test_architecture_decides_the_kind(bert: LoadedModel) -> None:
    assert bert.kind == "encoder"
    assert bert.module(input_ids=torch.zeros(1, 5, dtype=torch.int64)).last_hidden_state.shape == (1, 5, 32)


def test_loading_prints_nothing(llama_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(str(llama_folder))
    assert capfd.readouterr() == ("", "")


def test_weights_in_several_files_have_one_hash_of_all(llama: LoadedModel, tmp_path: Path) -> None:
    llama.module.save_pretrained(tmp_path, max_shard_size="40kB")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 1
    sharded = load(str(tmp_path))
    state = llama.module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in sharded.module.state_dict().items())
    assert sharded.weights_sha256 not in [fetch.sha256_of(file) for file in files]
    tensors = load_file(files[0])
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, files[0], metadata={"format": "pt"})
    assert load(str(tmp_path)).weights_sha256 != sharded.weights_sha256


@pytest.mark.parametrize("name", ["smollm3", "no/such/folder", "", "."])
def test_what_is_no_model_lists_the_zoo(name: str) -> None:
    with pytest.raises(LoadError, match="smollm2, minilm, efficientnet_lite0"):
        load(name)


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def with_code(folder: Path) -> None:
    change_config(folder, model_type="homemade", auto_map={"AutoConfig": "homemade.Config"})
    (folder / "homemade.py").write_text("raise SystemExit('code was run')")


def quantised(folder: Path) -> None:
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def encoder_decoder(folder: Path) -> None:
    change_config(folder, model_type="t5", architectures=["T5ForConditionalGeneration"])


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def of_another_shape(folder: Path) -> None:
    change_config(folder, intermediate_size=96)


def with_broken_tokeniser(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


SPOILT = {
    only_pickled: "only pickled weights .pytorch_model.bin.*smollm2, minilm",
    without_weights: "no weights; only safetensors are read.*smollm2, minilm",
    without_config: "no config.json there.*smollm2, minilm",
    with_broken_config: "config.json is not usable",
    with_code: "config.json is not usable",
    quantised: "stored quantised .gptq",
    encoder_decoder: "encoder-decoder models are not supported",
    truncated: "cannot be loaded",
    without_a_tensor: "1 tensors are missing or of another shape: model.layers.1.mlp.up_proj.weight",
    of_another_shape: "cannot be loaded|of another shape",
    with_broken_tokeniser: "tokeniser cannot be loaded",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_unusable_folders_are_refused_in_one_line(
    spoil: Callable[[Path], None], llama_folder: Path, tmp_path: Path
) -> None:
    folder = copy_of(llama_folder, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(LoadError, match=SPOILT[spoil]) as caught:
        load(str(folder))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_absent_pooler_is_removed_not_made_up(bert_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(bert_folder, tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler")}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(str(folder))
    output = model.module(input_ids=torch.zeros(1, 5, dtype=torch.int64))
    assert output.pooler_output is None and output.last_hidden_state.shape == (1, 5, 32)


def test_hub_id_reads_safetensors_only(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot(repo: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        return str(llama_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    model = load("owner/name", quiet=True)
    assert (model.name, model.source, model.kind) == ("owner/name", "huggingface.co/owner/name", "causal_lm")
    assert asked["repo"] == "owner/name"
    assert not any(pattern.endswith((".bin", ".py", ".pth")) or pattern == "*" for pattern in asked["allow_patterns"])


def test_hub_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def snapshot(repo: str, **options: Any) -> str:
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(fetch.FetchError, match=r"owner/name .* huggingface.co: Name or service not known; .*smollm2"):
        load("owner/name")
