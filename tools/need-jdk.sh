#!/bin/sh
# Says in one line which of JDK >= 11 and Maven is missing, and what to do about it.
versionMin=11
remedy="install them (Debian: apt-get install default-jdk-headless maven; macOS: brew install openjdk maven) and run make interop again"

javac=javac
if [ -n "${JAVA_HOME:-}" ]; then javac=$JAVA_HOME/bin/javac; fi
missing=""
if ! found=$("$javac" -version 2>&1); then
	missing="a JDK >= $versionMin (no $javac)"
else
	# "javac 17.0.15" and "javac 1.8.0_402"; options picked up are printed before.
	version=$(printf '%s\n' "$found" | sed -n 's/^javac \([0-9]*\).*/\1/p')
	if [ "${version:-0}" -lt $versionMin ]; then
		missing="a JDK >= $versionMin (found $(printf '%s' "$found" | tail -n 1))"
	fi
fi
if ! command -v mvn >/dev/null; then missing="${missing:+$missing and }Maven (no mvn)"; fi
if [ -n "$missing" ]; then
	echo "make interop needs $missing: $remedy" >&2
	exit 1
fi
