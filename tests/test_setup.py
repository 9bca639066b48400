"""What a user installs: pins, extras, and packages that start fast and pull in nothing heavy."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import hwsim

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)
LEVELS = ["hwsim", "hwsim.formats", "hwsim.pe", "hwsim.arch", "hwsim.cost"]


def canonical(name: str) -> str:
    """Return a distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=;\[ ]", name)[0]).lower()


def test_extras_are_the_documented_ones() -> None:
    assert set(PROJECT["optional-dependencies"]) == {"rtl", "quant", "models", "gpu", "sweep", "notebooks", "dev"}


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_every_requirement_has_a_pin(extra: str) -> None:
    wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    pinned = {canonical(name) for name in PINS}
    assert {canonical(name) for name in wanted} <= pinned


def test_pins_are_exact_and_for_a_processor() -> None:
    assert PINS["torch"] == "2.13.0"
    assert not [name for name in PINS if name.startswith("nvidia")]
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in PINS.values())


@pytest.mark.parametrize("level", LEVELS)
def test_level_imports_nothing_heavy(level: str) -> None:
    # numba too: kernels are compiled and loaded when first called
    code = f"import sys, {level}; print(*{{'torch', 'amaranth', 'cocotb', 'numba'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_import_is_fast() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import hwsim"], cwd=ROOT, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5  # the best of five, as other processes may hold the cores


MODULES = [info.name for info in pkgutil.walk_packages(hwsim.__path__, "hwsim.") if not info.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
