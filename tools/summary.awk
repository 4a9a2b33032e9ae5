# Counts the tests in the output of `go test -v`, Maven, pytest and Node, in one line.
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
# pytest's last line: "=== 1 passed, 1 failed, 1 error, 1 skipped in 0.28s ===".
/^=+ .* in [0-9.]+s.* =+$/ {
	for (i = 2; i < NF; i++) {
		if ($(i + 1) ~ /^passed/) passed += $i
		if ($(i + 1) ~ /^(failed|error)/) failed += $i
		if ($(i + 1) ~ /^skipped/) skipped += $i
	}
}
# Node's test runner, plain and for terminals.
/^(#|ℹ) pass [0-9]+$/ { passed += $3 }
/^(#|ℹ) (fail|cancelled) [0-9]+$/ { failed += $3 }
/^(#|ℹ) skipped [0-9]+$/ { skipped += $3 }
END {
	if (status != 0 && failed == 0) failed = 1 # the build, or a check
	printf "==== %d passed, %d failed, %d skipped in %ds ====\n", passed, failed, skipped, seconds
}
