package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// newRootCommand puts the commands together.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "apogee",
		Short:         "Apogee: a messaging system in one binary that speaks RocketMQ's protocols",
		Long:          rootText,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newStartCommand(),
		newLeaveCommand(),
		newTopicCommand(),
		newGroupCommand(),
		newMessageCommand(),
		newTransactionCommand(),
		newTimerCommand(),
		newDLQCommand(),
		newClusterCommand(),
		newProduceCommand(),
		newConsumeCommand(),
		newInspectCommand(),
		newBenchCommand(),
		newVersionCommand(),
	)
	return root
}

const rootText = `Apogee: a messaging system in one binary that speaks RocketMQ's protocols.

Commands that talk to a cluster find it by its name server: --namesrv, or the environment's NAMESRV_ADDR, or 127.0.0.1:9876. They work
against Apache RocketMQ as well.

What is printed is a table; with --json it is JSON, one value, or one a line where messages stream. Times are RFC 3339
(2026-01-31T08:00:00Z), or 2026-01-31, or local 2026-01-31T08:00:00, or ms since 1970.

What cannot be undone is asked for on a terminal, and refused elsewhere unless --yes is given.

Exit status: 0 success; 1 failure; 2 the command line is wrong, and nothing was done; 130 interrupted.`

// run executes the command line and returns the exit status. SIGINT and SIGTERM cancel the command's context.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runRoot(ctx, newRootCommand()); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "apogee: interrupted")
			return statusInterrupted
		}
		fmt.Fprintf(os.Stderr, "apogee: %v\n", err)
		return statusOf(err)
	}
	return statusOK
}

// runRoot runs a command line; what fails before the command's own work is a usage error.
func runRoot(ctx context.Context, root *cobra.Command) error {
	began := false
	markUsage(root, &began)
	err := root.ExecuteContext(ctx)
	if !began {
		return asUsage(err)
	}
	return err
}

func newVersionCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			v := buildVersion()
			if out.json {
				return out.writeJSON(c.OutOrStdout(), v)
			}
			fmt.Fprintf(c.OutOrStdout(), "apogee %s (%s, %s), speaks as RocketMQ %s\n", v.Version, v.Go, v.Platform, v.RocketMQ)
			return nil
		},
	}
	out.flag(c)
	return c
}

// version is set by the linker in a release.
var version = ""

type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	RocketMQ string `json:"rocketmq"`
}

func buildVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, RocketMQ: rocketVersion(protocol.Version)}
	if info, ok := debug.ReadBuildInfo(); ok && v.Version == "" {
		v.Version = info.Main.Version
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	return v
}

// rocketVersion names the release of a version ordinal: 5.0.0 is 413, a minor release has 20 ordinals and a patch two.
func rocketVersion(ordinal int) string {
	n := ordinal - 413
	return fmt.Sprintf("5.%d.%d", n/20, n%20/2)
}
