# Counts the tests in the output of `go test -v` and Maven, in one line.
/^ *--- PASS:/ { passed++ }
/^ *--- FAIL:/ { failed++ }
/^ *--- SKIP:/ { skipped++ }
# Maven prints one line for each class, with the time, and then the sum.
match($0, /Tests run: [0-9]+, .*Skipped: [0-9]+/) && !/Time elapsed/ {
	line = substr($0, RSTART, RLENGTH)
	gsub(/[^0-9 ]/, "", line)
	split(line, n, " ")
	passed += n[1] - n[2] - n[3] - n[4]
	failed += n[2] + n[3]
	skipped += n[4]
}
END {
	if (status != 0 && failed == 0) failed = 1 # the build, or a check
	printf "==== %d passed, %d failed, %d skipped in %ds ====\n", passed, failed, skipped, seconds
}
