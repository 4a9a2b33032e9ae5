// Package apogee holds no code, only the tests of the whole tree: which package
// may import which (layers_test.go), how the code is written (style_test.go), and
// what the product depends on (dependencies_test.go). The program is cmd/apogee;
// to run a node inside another program or a test, see package server.
package apogee
