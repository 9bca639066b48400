"""Errors of configuration files name the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.yaml_file import ConfigError, Strict, load, locate


class Inner(Strict):
    size: int


class Outer(Strict):
    name: str
    inner: Inner
    many: dict[str, Inner]


GOOD = "name: x\ninner: {size: 1}\nmany:\n  a: {size: 2}\n"

BAD = {
    "unknown": (GOOD + "nmae: y\n", "nmae: unknown key; allowed: name, inner, many"),
    "unknown_nested": (GOOD.replace("{size: 1}", "{size: 1, sise: 2}"), "inner.sise: unknown key; allowed: size"),
    "unknown_in_dictionary": (GOOD.replace("{size: 2}", "{size: 2, b: 3}"), "many.a.b: unknown key; allowed: size"),
    "duplicate": (GOOD + "name: y\n", "name: duplicate key (line 5)"),
    "duplicate_nested": (GOOD.replace("{size: 1}", "{size: 1, size: 1}"), "inner.size: duplicate key (line 2)"),
    "duplicate_in_list": (GOOD + "other: [{a: 1, a: 2}]\n", "other.0.a: duplicate key"),
    "missing": ("name: x\nmany: {}\n", "inner: missing key"),
    "missing_nested": (GOOD.replace("{size: 1}", "{}"), "inner.size: missing key"),
    "type": (GOOD.replace("{size: 1}", "{size: '1'}"), "inner.size: input should be a valid integer, not '1'"),
    "float": (GOOD.replace("{size: 1}", "{size: 1.0}"), "inner.size: input should be a valid integer, not 1.0"),
    "boolean": (GOOD.replace("{size: 1}", "{size: true}"), "inner.size: input should be a valid integer, not True"),
    "two_problems": ("nmae: x\ninner: {size: 1}\nmany: {}\n", "name: missing key; nmae: unknown key"),
    "no_yaml": ("name: [1, 2\n", "line 2: is no YAML"),
    "no_mapping": ("- 1\n", "must hold keys and values, not [1]"),
    "empty": ("", "must hold keys and values, not None"),
    "recursive": ("name: &a [*a]\n", "name: input should be a valid string"),
    "deep": ("name: " + "[" * 1500, "is nested too deeply"),
    "control": ("name: \x07\n", "is no YAML"),
    "tag": ("name: !!python/object:os.system x\n", "is no YAML"),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


def test_good_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD), Outer) == Outer(name="x", inner=Inner(size=1), many={"a": Inner(size=2)})


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_one_clear_line(case: str, tmp_path: Path) -> None:
    text, expected = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, Outer)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and expected in message


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml", Outer)
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load(tmp_path, Outer)
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigError, match=r"is no UTF-8 text: byte 6 is 0xe9"):
        load(path, Outer)


def test_names_and_paths(tmp_path: Path) -> None:
    known = write(tmp_path, GOOD)
    assert locate("file", tmp_path, "thing") == known
    assert locate("other.yaml", tmp_path, "thing", Path("base")) == Path("base/other.yaml")
    assert locate(Path("a/b"), tmp_path, "thing") == Path("a/b")
    with pytest.raises(ConfigError, match="unknown thing 'flie'; known: file;"):
        locate("flie", tmp_path, "thing")
