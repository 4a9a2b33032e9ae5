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
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newStartCommand(),
		newLeaveCommand(),
		newTopicCommand(),
		newProduceCommand(),
		newConsumeCommand(),
		newBenchCommand(),
		newVersionCommand(),
	)
	return root
}

// statusInterrupted is what a shell reports of a command that SIGINT ended.
const statusInterrupted = 130

// run executes the command line and returns the exit status. SIGINT and SIGTERM cancel the command's context.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRootCommand().ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "apogee: interrupted")
			return statusInterrupted
		}
		fmt.Fprintf(os.Stderr, "apogee: %v\n", err)
		return 1
	}
	return 0
}

func newVersionCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
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
