#!/usr/bin/env bash
# Runs clang-tidy: tools/tidy.sh [FILE.cc…]    without files: the C++ that differs from the last commit
#
# Slow (10 to 20 s a file) and therefore no part of `make test`. clang 14 parses the headers of g++ 12, with one
# exception: it rejects pipelines of std::views. Write such a loop out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

files=("$@")
if ((${#files[@]} == 0)); then
  mapfile -t files < <({ git diff --name-only --diff-filter=d HEAD -- 'src/*.cc' 2>/dev/null || true
                         git ls-files --others --exclude-standard -- 'src/*.cc'; } | sort -u)
fi
if ((${#files[@]} == 0)); then
  echo "tidy: nothing has changed"
  exit 0
fi
echo "tidy: ${#files[@]} file(s)"
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p build/release
