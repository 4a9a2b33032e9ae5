package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/apogeemq/apogee/server"
	"github.com/spf13/cobra"
)

// newLeaveCommand gives a directory back to RocketMQ.
func newLeaveCommand() *cobra.Command {
	var file, properties, dir string
	var yes bool
	var out output
	c := &cobra.Command{
		Use:   "leave",
		Short: "Give a stopped node's directory back to RocketMQ",
		Long: "Give the store directory of a stopped node back to RocketMQ: its log as it is, topics, groups, offsets and the progress of delays as\n" +
			"config/*.json. What waits for a moment of its own is appended again, as RocketMQ's wheel begins anew there. What RocketMQ derives from the\n" +
			"log (consumequeue, index, timerwheel, timerlog, checkpoint) is removed, so that its next start makes it anew; so\n" +
			"is all that is Apogee's. What has no place in RocketMQ is listed.",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&file, "config", os.Getenv("APOGEE_CONFIG"), "configuration file (YAML) of the node")
	c.Flags().StringVar(&properties, "conf", "", "RocketMQ broker.conf of the node")
	c.Flags().StringVar(&dir, "dir", "", "directory of the node's data")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	out.flag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		flags := map[string]string{}
		if dir != "" {
			flags["dir"] = dir
		}
		config, _, err := server.Load(server.Sources{Properties: properties, File: file, Env: os.Environ(), Flags: flags})
		if err != nil {
			return fmt.Errorf("the configuration is wrong:\n%w", err)
		}
		if err := confirm(c, yes, fmt.Sprintf("Give the directory %s back to RocketMQ?", config.Dir)); err != nil {
			return err
		}
		store, lost, err := server.Leave(config, slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			return err
		}
		if out.json {
			return out.writeJSON(c.OutOrStdout(), map[string]any{"store": store, "lost": append([]string{}, lost...)})
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is RocketMQ's: start it with storePathRootDir=%s.\n", store, store)
		if len(lost) > 0 {
			fmt.Fprintln(c.OutOrStdout(), "What has no place there:")
		}
		for _, l := range lost {
			fmt.Fprintln(c.OutOrStdout(), "  "+l)
		}
		return nil
	}
	return c
}
