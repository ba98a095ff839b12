#!/usr/bin/env bash
# Makes the environments of the clients that Causeway serves: tools/clients.sh [VERSION…]
#
# Each release of jax that CLIENT_VERSIONS in tools/versions.env names gets a virtual environment of its own in
# build/clients/VERSION (500 MB), with our package in it, so that JAX_PLATFORMS=causeway works there. What is there
# already is left alone: with nothing to do it returns within a second. Safe to run from several shells at once.
# Needs .venv (tools/setup.sh), whose pip it uses.
#
#   tools/clients.sh                  # all of them
#   tools/clients.sh 0.8.3 0.9.2      # these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/versions.env

say() { echo "clients: $*"; }

# fail WHAT CURE
fail() {
  echo "clients: error: $1" >&2
  echo "clients: cure:  $2" >&2
  exit 1
}

case ${1:-} in
  -h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
known=$(xargs <<<"$CLIENT_VERSIONS")
# shellcheck disable=SC2206  # one word, one version
wanted=(${*:-$known})
for version in "${wanted[@]}"; do
  [[ " $known " == *" $version "* ]] || fail "jax $version is not one of the clients that are tried" \
    "choose from $known, or add it to CLIENT_VERSIONS in tools/versions.env"
done
[[ -x .venv/bin/python ]] || fail "there is no .venv" "tools/setup.sh"

# The same lock as setup's: both install python/, whose build leaves files beside it.
mkdir -p build/clients
exec 9>build/.setup.lock
if ! flock --nonblock 9; then
  say "another setup is running; waiting for it"
  flock 9
fi

pins=$(printf '%s\n' $PIP_PACKAGES $PIP_CONSTRAINTS | grep -vE '^jax(lib)?==')
echo "$pins" >build/clients/constraints.txt
setuptools=$(grep '^setuptools==' <<<"$pins")
stamp_of_all=$(printf '%s\n' "$pins" | cat - python/pyproject.toml tools/clients.sh | sha256sum)

# pip_install VERSION ARGUMENT…
pip_install() {
  local version=$1 log=build/clients/$1.log
  shift
  if ! .venv/bin/python -m pip --python "build/clients/$version/bin/python" install \
    --disable-pip-version-check --no-input --no-compile "$@" >>"$log" 2>&1; then
    { grep '^ERROR' "$log" || tail -n 15 "$log"; } | cut -c 1-300 >&2
    fail "pip could not install the client jax $version (all of it: $log)" \
      "check the network and that the pins in tools/versions.env still exist, then run tools/clients.sh again"
  fi
}

for version in "${wanted[@]}"; do
  folder=build/clients/$version
  [[ $(cat "$folder/.stamp" 2>/dev/null) != "$stamp_of_all" ]] || continue
  say "installing jax $version into $folder (500 MB)"
  rm -rf "$folder"
  : >"build/clients/$version.log"
  # From the interpreter behind .venv, and without a pip of its own.
  "$(readlink -f .venv/bin/python)" -m venv --without-pip "$folder"
  pip_install "$version" --constraint build/clients/constraints.txt "jax==$version" "jaxlib==$version" "$setuptools"
  # Editable: JAX finds plugins through the entry points of installed packages.
  pip_install "$version" --no-deps --no-build-isolation --editable python
  echo "$stamp_of_all" >"$folder/.stamp"
done
