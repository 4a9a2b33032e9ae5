#!/bin/sh
# Runs every fuzz target of the module for the given time each: go test takes one at a time. Inputs are made short for a second at most:
# go test's own minute for each would be most of the time.
set -eu
time=${1:-10s}
grep -rl --include='*_test.go' --exclude-dir=interop --exclude-dir=tools '^func Fuzz' . | sort | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "$(dirname "$file") $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s "$(dirname "$file")"
	done
done
