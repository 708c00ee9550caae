#!/bin/sh
# Lists the packages that have tests for root, but for the end-to-end ones.
cd "$(dirname "$0")/.." || exit 1
git ls-files --cached --others --exclude-standard '*_root_test.go' | grep -v '^test/e2e/' | xargs -r -n1 dirname | sort -u | sed 's|^|./|'
