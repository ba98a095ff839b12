#!/usr/bin/env bash
# Checks format and style: tools/lint.sh [--fix]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python_folders=()
for folder in bench examples python tests tools; do
  [[ -d $folder ]] && python_folders+=("$folder")
done
mapfile -t cpp_files < <(find src bench -name '*.h' -o -name '*.cc' | sort)

if [[ ${1:-} == --fix ]]; then
  clang-format-14 -i "${cpp_files[@]}"
  .venv/bin/ruff check --quiet --fix "${python_folders[@]}" || true
  .venv/bin/ruff format --quiet "${python_folders[@]}"
fi

failed=0
clang-format-14 --dry-run -Werror "${cpp_files[@]}" || failed=1
.venv/bin/ruff check --quiet "${python_folders[@]}" || failed=1
.venv/bin/ruff format --quiet --check "${python_folders[@]}" || failed=1
.venv/bin/python -m pytest -q --no-header tests/tidy_test.py || failed=1

if ((failed)); then
  echo "lint: style is not kept; tools/lint.sh --fix mends what a tool can mend" >&2
  exit 1
fi
