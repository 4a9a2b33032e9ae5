// Package harness starts, kills and restarts the binary under test.
//
// APOGEE_BIN names the binary, ../../bin/apogee by default. APOGEE_READY_SECONDS bounds its
// start, 10 by default. With INTEROP_NAMESRV=host:port (and INTEROP_BROKER, by default port
// 10911 of the same host) the tests use a cluster that runs already, and those that would have
// to start or kill a broker are skipped.
//
// It signals only processes that it started itself.
package harness
