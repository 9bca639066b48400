"""The catalogue is complete, pinned, and readable without torch."""

import re
import subprocess
import sys

import pytest

from models import zoo


def test_names_are_those_of_the_shell() -> None:
    assert zoo.names() == ("smollm2", "minilm", "efficientnet_lite0")
    assert [zoo.get(name).name for name in zoo.names()] == list(zoo.names())


@pytest.mark.parametrize("model", zoo.catalogue(), ids=zoo.names())
def test_everything_is_pinned(model: zoo.ZooModel) -> None:
    assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", model.requirement)
    assert re.fullmatch(r"[0-9a-f]{64}", model.wheel_sha256)
    assert re.fullmatch(r"[0-9a-f]{64}", model.weights_sha256)
    assert model.wheel_sha256 != model.weights_sha256
    assert model.licence == "Apache-2.0"


def test_only_smollm2_is_already_quantised_and_says_so() -> None:
    assert "Q4_1" in zoo.get("smollm2").note
    assert all("unquantised" in zoo.get(name).note for name in ("minilm", "efficientnet_lite0"))


def test_only_the_vision_network_is_published_as_a_pickle() -> None:
    pickled = [model.name for model in zoo.catalogue() if model.conversion == "state_dict_pickle"]
    assert pickled == ["efficientnet_lite0"]


def test_unknown_name_lists_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'gpt5'.*smollm2, minilm, efficientnet_lite0"):
        zoo.get("gpt5")


def test_catalogue_cache_and_text_need_no_torch() -> None:
    code = (
        "import sys; from models import fetch, text, zoo; zoo.catalogue(); fetch.cache_entries(); text.default_text();"
        "print([m for m in ('torch', 'transformers', 'gguf', 'safetensors') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
