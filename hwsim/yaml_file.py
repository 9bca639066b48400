"""Read a YAML file into a pydantic model; errors name the file, the key, what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A configuration file that cannot be used; the message is one line."""


class Strict(BaseModel):
    """Base of all models read from files: no unknown keys, no conversions, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Model = TypeVar("Model", bound=Strict)


def stems(folder: Path) -> tuple[str, ...]:
    """Return the names of the YAML files of a folder, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def locate(reference: str | Path, folder: Path, kind: str, base: Path | None = None) -> Path:
    """Return the file that a name or a path means.

    Parameters
    ----------
    reference : str or Path
        A name of `folder`, or a path: what ends in .yaml or .yml, or has a folder in it.
    folder : Path
        Where the named files of this `kind` lie.
    kind : str
        Word for the error, such as "machine".
    base : Path, optional
        Folder that relative paths start from; the current one by default.

    Raises
    ------
    ConfigError
        When the name is unknown; the message lists the legal ones.
    """
    path = Path(reference)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return (base or Path()) / path
    if str(reference) not in stems(folder):
        raise ConfigError(
            f"unknown {kind} {str(reference)!r}; known: {', '.join(stems(folder))}; or the path of a .yaml file"
        )
    return folder / f"{reference}.yaml"


def load(path: Path, model: type[Model]) -> Model:
    """Read a file into a model.

    Raises
    ------
    ConfigError
        When the file cannot be read or is no YAML, or a key is duplicate, unknown, missing or has a wrong value. Each
        wrong key is named with its path.
    """
    return _validate(path, _read(path), model)


def load_tagged(path: Path, tag: str, models: Mapping[str, type[Model]]) -> Model:
    """Read a file into the model that its key `tag` names.

    Raises
    ------
    ConfigError
        As `load`, and when the tag is missing or names no model.
    """
    data = _read(path)
    if tag not in data:
        raise ConfigError(f"{path}: {tag}: missing key")
    if not isinstance(data[tag], str) or data[tag] not in models:
        raise ConfigError(f"{path}: {tag}: must be one of {', '.join(models)}, not {_brief(data[tag])}")
    return _validate(path, data, models[data[tag]])


def _validate(path: Path, data: dict[str, Any], model: type[Model]) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_explain(detail, model) for detail in error.errors()]
        raise ConfigError(f"{path}: {'; '.join(problems)}") from None


def _read(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(f"{path}: is no UTF-8 text: byte {error.start} is {byte:#04x}") from None
    yaml = YAML(typ="safe", pure=True)
    try:
        duplicates = list(_duplicates(yaml.compose(text), (), set()))
        if duplicates:
            raise ConfigError(f"{path}: {'; '.join(duplicates)}")
        data = yaml.load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{path}: {line}is no YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    except ConfigError:
        raise
    except ValueError as error:  # a value that does not fit its tag, such as a date
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold keys and values, not {_brief(data)}")
    return data


def _duplicates(node: Any, path: tuple[str, ...], visited: set[int]) -> Iterator[str]:
    """Yield a message for each key that stands twice in one mapping; ruamel's own error lacks the path of the key."""
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if id(node) in visited:  # an alias, perhaps of a node that it lies in
        return
    visited.add(id(node))
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, (*path, str(index)), visited)
    elif isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            here = (*path, str(key.value))
            if here[-1] in seen:
                yield f"{'.'.join(here)}: duplicate key (line {key.start_mark.line + 1})"
            seen.add(here[-1])
            yield from _duplicates(value, here, visited)


def _explain(detail: Any, model: type[Strict]) -> str:
    """Say in one phrase what is wrong with one key."""
    location = detail["loc"]
    where = ".".join(str(part) for part in location)
    if detail["type"] == "missing":
        return f"{where}: missing key"
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key; allowed: {', '.join(_allowed(model, location[:-1]))}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}, not {_brief(detail['input'])}"


def _allowed(model: type[Strict], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the model at a location has, going down through nested models and dictionaries."""
    current: Any = model
    for part in location:
        nested = isinstance(current, type) and issubclass(current, BaseModel)
        current = current.model_fields[str(part)].annotation if nested else _inner(current)
        if isinstance(current, UnionType):  # a model that may be left out
            current = _inner(current)
    return list(current.model_fields)


def _inner(annotation: Any) -> Any:
    """Return what a container or an optional type holds."""
    return [kind for kind in get_args(annotation) if kind not in (NoneType, Ellipsis)][-1]


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
