// Command apogee runs Apogee's roles and holds everything that an operator types: topics, produce, consume, bench.
package main

import "os"

func main() { os.Exit(run()) }
