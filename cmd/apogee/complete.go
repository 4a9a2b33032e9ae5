package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// completionTimeout is how long a shell waits for names.
const completionTimeout = 2 * time.Second

// lister gives the names that can stand somewhere, of the cluster that the command line means.
type lister func(ctx context.Context, cl *cluster) ([]string, error)

func completions(list lister) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		f := clusterFlags{namesrv: defaultNameServer(), timeout: completionTimeout}
		if given := c.Flag("namesrv"); given != nil {
			f.namesrv = given.Value.String()
		}
		var names []string
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		if cl, err := f.open(); err == nil {
			defer cl.close()
			if names, err = list(ctx, cl); err != nil {
				cobra.CompDebugln(err.Error(), false)
			}
		}
		names = slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, prefix) })
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeArgs completes the arguments, each by its own lister.
func completeArgs(c *cobra.Command, lists ...lister) {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(lists) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completions(lists[len(args)])(c, args, prefix)
	}
}

func completeFlag(c *cobra.Command, flag string, list lister) {
	if err := c.RegisterFlagCompletionFunc(flag, completions(list)); err != nil {
		panic(err) // no such flag
	}
}

func topicNames(ctx context.Context, cl *cluster) ([]string, error) {
	names, err := cl.topicNames(ctx)
	if err != nil {
		return nil, err
	}
	info, err := cl.info(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(t string) bool { return isInternal(t, info) }), nil
}

func groupNames(ctx context.Context, cl *cluster) ([]string, error) {
	groups, err := cl.groups(ctx, scope{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Collect(maps.Keys(groups)), isSystemGroup), nil
}

// deadGroups are the groups that have dead letters.
func deadGroups(ctx context.Context, cl *cluster) (groups []string, err error) {
	names, err := cl.topicNames(ctx)
	for _, t := range names {
		if g, ok := strings.CutPrefix(t, message.DLQPrefix); ok {
			groups = append(groups, g)
		}
	}
	return groups, err
}

func brokerNames(ctx context.Context, cl *cluster) ([]string, error) {
	return infoNames(ctx, cl, func(i *protocol.ClusterInfo) []string { return slices.Collect(maps.Keys(i.Brokers)) })
}

func clusterNames(ctx context.Context, cl *cluster) ([]string, error) {
	return infoNames(ctx, cl, func(i *protocol.ClusterInfo) []string { return slices.Collect(maps.Keys(i.Clusters)) })
}

func infoNames(ctx context.Context, cl *cluster, pick func(*protocol.ClusterInfo) []string) ([]string, error) {
	info, err := cl.info(ctx)
	if err != nil {
		return nil, err
	}
	return pick(info), nil
}
