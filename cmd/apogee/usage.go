package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	statusOK          = 0
	statusFailure     = 1
	statusUsage       = 2
	statusInterrupted = 130 // what a shell reports of a command that SIGINT ended
)

// usageError says that the command line itself is wrong: nothing was done.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// asUsage marks an error of a check of what was typed; nil stays nil.
func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// statusOf is what a command that ended in err exits with.
func statusOf(err error) int {
	var u usageError
	switch {
	case err == nil:
		return statusOK
	case errors.As(err, &u):
		return statusUsage
	}
	return statusFailure
}

// markUsage makes every error from before a command's own work a usage error: flags, arguments and unknown commands.
func markUsage(c *cobra.Command, began *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*began = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		markUsage(sub, began)
	}
}

// noun is a command that only holds others: it prints its help, and names what it does not know.
func noun(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			hint := ""
			if s := c.SuggestionsFor(args[0]); len(s) > 0 {
				hint = fmt.Sprintf("; did you mean %s?", strings.Join(s, " or "))
			}
			return usagef("unknown command %q of %s%s: see %s --help", args[0], c.CommandPath(), hint, c.CommandPath())
		},
	}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(commands...)
	return c
}

// takes is cobra.ExactArgs with an error that says of what: takes("group", "topic").
func takes(what ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(what) {
			return nil
		}
		want := "no argument"
		if len(what) > 0 {
			want = "one " + strings.Join(what, " and one ")
		}
		return usagef("%s takes %s, got %d: %s", c.CommandPath(), want, len(args), c.UseLine())
	}
}
