package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/apogeemq/apogee/server"
	"github.com/spf13/cobra"
)

// newStartCommand runs a node until SIGINT or SIGTERM.
func newStartCommand() *cobra.Command {
	var (
		file, properties string
		inMemory         bool
		out              output
	)
	c := &cobra.Command{
		Use:   "start",
		Short: "Run a node: name server and broker",
		Long: "Run a node in the foreground until SIGINT or SIGTERM, which drain it.\n\n" +
			"Every setting has one name in the file (--config, YAML), in the environment (APOGEE_ and the flag's name in capitals) and\n" +
			"here; flags win over the environment, that over the file, that over a RocketMQ broker.conf (--conf).",
		Args: takes(),
	}
	c.Flags().StringVar(&file, "config", os.Getenv("APOGEE_CONFIG"), "configuration file (YAML)")
	c.Flags().StringVar(&properties, "conf", "", "RocketMQ broker.conf to take settings from")
	c.Flags().BoolVar(&inMemory, "in-memory", false, "for tests: everything in memory, on free ports of 127.0.0.1 unless others are named")
	c.Flags().BoolVar(&out.json, "json", false, "print one line of JSON when ready: namesrv, broker and admin are host:port")
	for _, o := range server.Options() {
		c.Flags().String(o.Flag, "", o.Usage)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		given := map[string]string{}
		for _, o := range server.Options() {
			if f := c.Flags().Lookup(o.Flag); f.Changed {
				given[f.Name] = f.Value.String()
			}
		}
		config, ignored, err := server.Load(server.Sources{
			InMemory: inMemory, Properties: properties, File: file, Env: os.Environ(), Flags: given,
		})
		if err != nil {
			return fmt.Errorf("the configuration is wrong:\n%w", err)
		}
		if len(ignored) > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "%s: these keys mean nothing here and are passed over: %s\n", properties, strings.Join(ignored, ", "))
		}
		config.Profiles = profiles()
		if !inMemory {
			debug.SetMemoryLimit(config.MemoryLimit())
			useProcessors()
		}
		return serve(c, config, out)
	}
	return c
}

// blockedMax is how many goroutines wait for the disk at a time when a node is busy: the log's writer, and a reader of what is not in memory.
const blockedMax = 2

// useProcessors lets Go run as many threads more than there are processors as usually wait for the disk. Without, whoever comes back from
// there has lost its processor and waits for another (docs/decisions/007). A wish of the user (GOMAXPROCS) or a limit of the container
// below what the machine has is left alone: Go respects both.
func useProcessors() {
	if n := runtime.NumCPU(); os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == n {
		runtime.GOMAXPROCS(n + blockedMax)
	}
}

// profiles are Go's. Importing net/http/pprof changes the process's default mux, which is ours to do here and not in a library.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func serve(c *cobra.Command, config server.Config, out output) error {
	node, err := server.New(config)
	if err != nil {
		return err
	}
	ctx := c.Context()
	if err := node.Start(ctx); err != nil {
		return err
	}
	said := c.OutOrStdout()
	if version := buildVersion().Version; out.json {
		if err := writeJSONLine(said, node.Info(version)); err != nil {
			return errors.Join(err, node.Close(context.WithoutCancel(ctx)))
		}
		said = io.Discard
	} else {
		node.WriteInfo(said, version)
	}
	<-ctx.Done()
	fmt.Fprintln(said, "Stopping: no more messages are taken, what is in flight is finished. A second signal ends it at once.")
	if err := stop(c, node, 2*config.DrainTimeout); err != nil {
		return err
	}
	fmt.Fprintln(said, "Stopped.")
	return nil
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
		return nil
	case <-again:
		return errors.New("ended by a second signal; the next start recovers")
	case <-time.After(limit):
		return fmt.Errorf("not stopped after %v (twice drainTimeout); ended, the next start recovers", limit)
	}
}
