// Package crashfs is a file system for tests, in memory, that can lose power while it is used. The product does not import it.
package crashfs
