//go:build !linux

package server

func openFiles() string { return "the system's limit of" }

// diskBytes is not known.
func diskBytes(string) (total, free int64) { return 0, 0 }
