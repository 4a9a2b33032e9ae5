//go:build !linux

package server

func openFiles() string { return "the system's limit of" }
