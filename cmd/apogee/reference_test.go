package main

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/CLI.md anew")

const referenceFile = "../../docs/CLI.md"

// TestReferenceIsUpToDate holds docs/CLI.md against the commands: it is their help. `go test ./cmd/apogee -run Reference -update` writes it.
func TestReferenceIsUpToDate(t *testing.T) {
	t.Setenv("NAMESRV_ADDR", "")
	t.Setenv("APOGEE_CONFIG", "")
	want := reference(newRootCommand())
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("docs/CLI.md is out of date; run `go test ./cmd/apogee -run Reference -update`:\n%s", d)
	}
}

func TestEveryCommandPrintsJSON(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.HasAvailableSubCommands() && c.Name() != "help" && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk(newRootCommand())
}

//go:embed testdata/against_rocketmq.md
var againstRocketMQ string // what interop/mqadmin's CommandLineTest finds out

// reference writes all commands as Markdown.
func reference(root *cobra.Command) string {
	root.InitDefaultCompletionCmd()
	var b strings.Builder
	fmt.Fprintf(&b, "# The command line\n\nMade from `--help` of every command; a test holds it up to date.\n\n%s\n\n", root.Long)
	b.WriteString("Names of topics, groups, brokers and settings complete from the server: `source <(apogee completion bash)`.\n\n| Command | |\n|---|---|\n")
	var leaves []*cobra.Command
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.HasAvailableSubCommands() {
			leaves = append(leaves, c)
		}
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk(root)
	for _, c := range leaves {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
	}
	b.WriteString("\n" + againstRocketMQ)
	for _, c := range leaves {
		describe(&b, c)
	}
	return b.String()
}

func describe(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n```\n%s\n```\n", c.CommandPath(), c.Short, c.UseLine())
	if c.Parent().Name() == "completion" {
		return // cobra's own text
	}
	if c.Long != "" {
		fmt.Fprintf(b, "\n%s\n", c.Long)
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
	}
	if c.Name() == "start" {
		own := (&cobra.Command{}).Flags()
		for _, name := range []string{"config", "conf", "in-memory", "json"} {
			own.AddFlag(c.Flags().Lookup(name))
		}
		fmt.Fprintf(b, "\n```\n%s```\n\n`apogee start --help` lists the settings, each of which is a flag, too.\n", own.FlagUsagesWrapped(120))
		return
	}
	if usages := c.NonInheritedFlags().FlagUsagesWrapped(120); usages != "" {
		fmt.Fprintf(b, "\n```\n%s```\n", usages)
	}
}
