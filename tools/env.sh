#!/bin/sh
# Makes .venv, or refreshes it after a change of what it is made from; does nothing when it is current.
# An interpreter of one's own: PYTHON=/path/to/python3.11 make env
set -eu
cd "$(dirname "$0")/.."

own="an environment of its own: remove it (rm -r .venv) and try again."
if [ -L .venv ]; then echo "make env: .venv is a link to $(readlink .venv), and this folder needs ${own}" | sed 's/rm -r/rm/' >&2; exit 1; fi
# Where it was made stands in bin/activate, whoever made it (venv, virtualenv, uv), and for venv in pyvenv.cfg as well.
made_for=$({ sed -n "s/^ *\(export \)\{0,1\}VIRTUAL_ENV=[\"']\{0,1\}\(\/[^\"']*\)[\"']\{0,1\}\$/\2/p" .venv/bin/activate || true
             sed -n 's/^command = .* -m venv \(--[a-z-]* \)*//p' .venv/pyvenv.cfg; } 2>/dev/null | head -n 1)
if [ -n "$made_for" ] && [ -d "$made_for" ] && [ "$(cd "$made_for" && pwd -P)" != "$(cd .venv && pwd -P)" ]; then
    echo "make env: .venv was made for $made_for, which is another folder, and this one needs $own" >&2; exit 1
fi

stamp=.venv/.lf2-stamp
key=$({ cat constraints.txt pyproject.toml settings.ini; pwd; } | cksum)
if [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$key" ]; then exit 0; fi

if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    if [ -e .venv ]; then echo "make env: .venv exists and has no working Python 3.11 with pip: remove it (rm -r .venv) and try again." >&2; exit 1; fi
    for python in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$python; break; fi
    done
    if [ -z "${found:-}" ]; then
        echo "make env: no Python 3.11 or newer among ${PYTHON:-python3.11 python3 python3.12 python3.13}: install it, or name one with PYTHON=/path/to/python3.11 make env." >&2; exit 1
    fi
    if ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "make env: $found has no venv module: install it (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1
    fi
    echo "making .venv with $("$found" --version)"
    "$found" -m venv .venv
fi

echo "installing what constraints.txt pins into .venv (the first time a few minutes and up to 6 GB)"
if [ -t 1 ]; then quiet=""; else quiet="--quiet"; fi
.venv/bin/python -m pip install $quiet --disable-pip-version-check -c constraints.txt -e . || {
    echo "make env: pip could not install the packages of pyproject.toml as constraints.txt pins them; its message is above." >&2; exit 1; }
printf '%s\n' "$key" > $stamp
