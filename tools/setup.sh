#!/usr/bin/env bash
# Installs what tools/versions.env names: Debian packages (as root or through sudo) and the Python environment .venv.
#
# Installs only what is missing; with nothing to do it returns within a second. Safe to run from several shells at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/versions.env

say() { echo "setup: $*"; }

# fail WHAT CURE
fail() {
  echo "setup: error: $1" >&2
  echo "setup: cure:  $2" >&2
  exit 1
}

install_debian_packages() {
  command -v dpkg-query >/dev/null ||
    fail "this is not a Debian system (no dpkg-query)" \
      "use Debian 12, or install by hand what APT_PACKAGES in tools/versions.env names"

  local installed missing=() package
  # shellcheck disable=SC2086  # one word, one package
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $APT_PACKAGES 2>/dev/null || true)
  for package in $APT_PACKAGES; do
    grep -qxF "installed $package" <<<"$installed" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      fail "Debian packages are missing, and this is neither root nor is there sudo" \
        "as root: apt-get update && apt-get install -y ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} Debian package(s): ${missing[*]}"
  local log=build/setup-apt.log
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    fail "apt-get failed (all of it: $log)" \
      "check the network and /etc/apt/sources.list (bookworm, main), then run tools/setup.sh again"
  fi
}

# The interpreter to make .venv with. Debian's own comes first: one of pyenv's may be removed under our feet.
find_python() {
  local candidate probe="import sys, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$PYTHON_VERSION')"
  for candidate in "/usr/bin/python$PYTHON_VERSION" "python$PYTHON_VERSION" python3; do
    if "$candidate" -c "$probe" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python $PYTHON_VERSION with the venv module" \
    "apt-get install python$PYTHON_VERSION-venv, or pyenv install $PYTHON_VERSION"
}

# pip_install WHAT ARGUMENT…
pip_install() {
  local what=$1 log=build/setup-pip.log
  shift
  if ! .venv/bin/python -m pip install --disable-pip-version-check --no-input "$@" >"$log" 2>&1; then
    { grep '^ERROR' "$log" || tail -n 15 "$log"; } | cut -c 1-300 >&2
    fail "pip could not install $what (all of it: $log)" \
      "check the network and that the pins in tools/versions.env still exist, then run tools/setup.sh again"
  fi
}

install_python_packages() {
  local stamp=.venv/.versions wanted
  wanted=$(sha256sum tools/versions.env)
  if [[ -x .venv/bin/python && $(cat "$stamp" 2>/dev/null) == "$wanted" ]]; then return; fi

  if ! .venv/bin/python -c '' 2>/dev/null; then
    local python
    python=$(find_python)
    say "making .venv with $python"
    rm -rf .venv
    "$python" -m venv .venv
  fi
  rm -f "$stamp"
  say "installing Python packages (1.4 GB the first time)"
  local constraints=build/setup-constraints.txt
  # shellcheck disable=SC2086  # one word, one pin
  printf '%s\n' $PIP_CONSTRAINTS >"$constraints"
  # shellcheck disable=SC2086
  pip_install "PIP_PACKAGES" --constraint "$constraints" $PIP_PACKAGES
  # shellcheck disable=SC2086
  pip_install "PIP_PACKAGES_ALONE" --no-deps $PIP_PACKAGES_ALONE
  echo "$wanted" >"$stamp"
}

# Our own package, editable: JAX finds plugins through the entry points of installed packages.
install_own_package() {
  [[ -f python/pyproject.toml ]] || return 0
  local stamp=.venv/.own-package wanted
  wanted=$(sha256sum python/pyproject.toml tools/versions.env)
  [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]] || return 0
  say "installing python/ into .venv (editable)"
  pip_install "our own package, python/" --no-deps --no-build-isolation --editable python
  echo "$wanted" >"$stamp"
}

mkdir -p build
exec 9>build/.setup.lock
if ! flock --nonblock 9; then
  say "another setup is running; waiting for it"
  flock 9
fi
install_debian_packages
install_python_packages
install_own_package
