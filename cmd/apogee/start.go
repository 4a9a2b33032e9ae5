package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/apogeemq/apogee/server"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newStartCommand runs a node until SIGINT or SIGTERM.
func newStartCommand() *cobra.Command {
	var file, properties string
	c := &cobra.Command{
		Use:   "start",
		Short: "Run a node: name server and broker",
		Long: "Run a node in the foreground until SIGINT or SIGTERM, which drain it.\n\n" +
			"Every setting has one name in the file (--config, YAML), in the environment (APOGEE_ and the flag's name in capitals) and\n" +
			"here; flags win over the environment, that over the file, that over a RocketMQ broker.conf (--conf).",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&file, "config", os.Getenv("APOGEE_CONFIG"), "configuration file (YAML)")
	c.Flags().StringVar(&properties, "conf", "", "RocketMQ broker.conf to take settings from")
	for _, o := range server.Options() {
		c.Flags().String(o.Flag, "", o.Usage)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		given := map[string]string{}
		c.Flags().Visit(func(f *pflag.Flag) {
			if f.Name != "config" && f.Name != "conf" {
				given[f.Name] = f.Value.String()
			}
		})
		config, ignored, err := server.Load(server.Sources{Properties: properties, File: file, Env: os.Environ(), Flags: given})
		if err != nil {
			return fmt.Errorf("the configuration is wrong:\n%w", err)
		}
		if len(ignored) > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "%s: these keys mean nothing here and are passed over: %s\n", properties, strings.Join(ignored, ", "))
		}
		return serve(c, config)
	}
	return c
}

func serve(c *cobra.Command, config server.Config) error {
	node, err := server.New(config)
	if err != nil {
		return err
	}
	ctx := c.Context()
	if err := node.Start(ctx); err != nil {
		return err
	}
	node.WriteInfo(c.OutOrStdout(), buildVersion().Version)
	<-ctx.Done()
	fmt.Fprintln(c.OutOrStdout(), "Stopping: no more messages are taken, what is in flight is finished. A second signal ends it at once.")
	return stop(c, node, 2*config.DrainTimeout)
}

// stop drains the node, for so long. What then is not finished is left as a crash would leave it, which loses nothing acknowledged.
func stop(c *cobra.Command, node *server.Server, limit time.Duration) error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	stopped := make(chan error, 1)
	go func() { stopped <- node.Close(context.WithoutCancel(c.Context())) }()
	select {
	case err := <-stopped:
		if err != nil {
			return fmt.Errorf("the stop was not clean: %w", err)
		}
		fmt.Fprintln(c.OutOrStdout(), "Stopped.")
		return nil
	case <-again:
		return errors.New("ended by a second signal; the next start recovers")
	case <-time.After(limit):
		return fmt.Errorf("not stopped after %v (twice drainTimeout); ended, the next start recovers", limit)
	}
}
