#!/usr/bin/env bash
# Make .venv with everything pinned in constraints.txt. Called by the Makefile when something changed; safe to repeat.
#
#   PYTHON       the interpreter to use (default: the first of python3, python3.14 ... python3.11 that is 3.11 or newer)
#   TORCH        the torch requirement (default: the pin in constraints.txt)
#   TORCH_INDEX  another wheel index for torch, e.g. https://download.pytorch.org/whl/cpu to leave the CUDA libraries out
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n==> %s\n' "$*"; }
fail() { printf '\nCannot set up: %s\n' "$*" >&2; exit 1; }

# Run apt-get where that is possible; otherwise say in one sentence what to install.
system_package() {
  local packages=$1 reason=$2
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $packages ($reason)"
    # shellcheck disable=SC2086  # several packages
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages; then return; fi
  fi
  fail "$reason; install what is missing with: sudo apt-get install $packages"
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if is_new_enough "$candidate"; then python=$candidate; break; fi
  done
  [ -n "$python" ] || fail "no Python 3.11 or newer was found; install one, or name it: make install PYTHON=/path/to/python3.11"
fi
is_new_enough "$python" || fail "PYTHON=$python is not a Python 3.11 or newer"

if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  version=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
  system_package "python$version-venv" "$("$python" --version) has no venv module or no pip"
fi

say "making .venv with $("$python" --version) (downloads on the first call; a few minutes)"
if ! is_new_enough .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  "$python" -m venv --clear .venv
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
pip_install=(.venv/bin/python -m pip install --constraint constraints.txt)
torch=${TORCH:-$(grep '^torch==' constraints.txt)}
say "installing $torch"
if [ -n "${TORCH_INDEX:-}" ]; then
  "${pip_install[@]}" "$torch" --index-url "$TORCH_INDEX"
else
  "${pip_install[@]}" "$torch"
fi
say "installing cerebella and its tools"
"${pip_install[@]}" --quiet --editable '.[dev]'

# Most rendering is NumPy and video comes with the PyAV wheel; only the workcell's pictures need OpenGL from the system.
say "checking that everything loads"
.venv/bin/python - <<'PYTHON' || fail "a package does not load (see above); if it names a .so file, install the system library that provides it"
import av, gymnasium, matplotlib, numpy, PIL, tokenizers, torch, transformers
if not {"libx264", "mpeg4"} & av.codecs_available:
    raise SystemExit("PyAV was built without a video encoder: reinstall the av wheel from PyPI")
print(f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {numpy.__version__}, PyAV {av.__version__}")
PYTHON

draws() { .venv/bin/python -c 'from mujoco.egl import GLContext; GLContext(16, 16).free()' 2>/dev/null; }
if [ "$(uname)" = Linux ] && [ -z "${MUJOCO_GL:-}" ] && ! draws; then
  system_package "libegl1 libegl-mesa0 libgl1-mesa-dri" "the cameras of the workcell need OpenGL without a display (EGL)"
  draws || fail "EGL does not work here; set MUJOCO_GL=osmesa (with libosmesa6) and try again"
fi
