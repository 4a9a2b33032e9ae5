#!/bin/sh
# Says in one line which of Python >= 3.9 (with venv) and Node >= 18 is missing, and what to do about it.
missing=""
python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || missing="Python >= 3.9 with venv"
node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null || missing="${missing:+$missing and }Node >= 18"
if [ -n "$missing" ]; then
	echo "make examples needs $missing: install it (Debian: apt-get install python3-venv nodejs; macOS: brew install python node) and run make examples again" >&2
	exit 1
fi
