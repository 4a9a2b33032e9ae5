// Package transcript replays stories of state machines in tests: text that a person can read. A line that begins with "> " is an event, the
// lines below it are what came of it, "#" begins a comment. It must not know any state machine. With -update the answers are written anew.
package transcript
