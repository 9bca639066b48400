"""Texts are split once, without overlap, and carry their hash."""

import hashlib
from pathlib import Path

import pytest

from models.text import Text, default_text, from_file


def test_default_text_is_the_sorted_topics() -> None:
    from pydoc_data.topics import topics

    text = default_text()
    assert text.text == "\n".join(body for _, body in sorted(topics.items()))
    assert 300_000 < len(text.text) < 1_000_000
    assert text.sha256 == hashlib.sha256(text.text.encode()).hexdigest()


@pytest.mark.parametrize(
    "text", [default_text().text, "one line only", "a\nb\nc\nd\ne\n", "a\n" + "long" * 20], ids=len
)
def test_parts_make_up_the_text_and_the_evaluation_part_starts_it(text: str) -> None:
    parts = Text(text).evaluation.text, Text(text).calibration.text
    assert parts[0] + parts[1] == text
    assert all(parts)


def test_parts_are_cut_at_a_line_and_evaluation_is_the_larger() -> None:
    text = default_text()
    assert text.evaluation.text.endswith("\n")
    assert 0.74 < len(text.evaluation.text) / len(text.text) <= 0.75
    assert "pydoc_data.topics" in text.calibration.source and "calibration" in text.calibration.source


def test_from_file_reads_utf8(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("café\n".encode())
    assert from_file(path).text == "café\n"
    assert str(path) in from_file(path).source


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "No such file"), (b"", "empty"), (b" \n\t\n", "empty"), (b"abc\xff", "not UTF-8: byte 3 is 0xff")],
    ids=["missing", "empty", "blank", "latin-1"],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=expected) as caught:
        from_file(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_text_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Is a directory"):
        from_file(tmp_path)
