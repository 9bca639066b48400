from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.files import replacing


def test_success_replaces_the_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with replacing(target) as aside:
        aside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as aside:
        aside.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
