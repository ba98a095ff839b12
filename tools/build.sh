#!/usr/bin/env bash
# Builds one preset: tools/build.sh [PRESET] [TARGET…]      PRESET: release (default), debug, asan, tsan, fuzz
#
# Safe to call from several shells at once: a lock in the build folder lets one build run at a time and the others wait.
# CAUSEWAY_JOBS limits the number of compilers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-release}
shift || true
case $preset in
  release | debug | asan | tsan | fuzz) ;;
  *)
    echo "build.sh: no preset '$preset'; use release, debug, asan, tsan or fuzz" >&2
    exit 2
    ;;
esac

dir=build/$preset
mkdir -p "$dir"
exec 9>>"$dir/.lock"
if ! flock --nonblock 9; then
  echo "build.sh: another build of $preset is running; waiting for it" >&2
  flock 9
fi

if [[ ! -f $dir/build.ninja || CMakePresets.json -nt $dir/CMakeCache.txt ]]; then
  cmake --preset "$preset" 9>&-
fi
ninja -C "$dir" ${CAUSEWAY_JOBS:+-j "$CAUSEWAY_JOBS"} "$@" 9>&-
