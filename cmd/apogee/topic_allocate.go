package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// allocation is the share of one member.
type allocation struct {
	Client string           `json:"client"`
	Queues []allocatedQueue `json:"queues"`
}

type allocatedQueue struct {
	Broker string `json:"broker"`
	Queue  int32  `json:"queue"`
}

func newTopicAllocateCommand() *cobra.Command {
	var f clusterFlags
	var clients []string
	var strategy string
	c := &cobra.Command{
		Use:   "allocate NAME --clients ID,ID...",
		Short: "Show which queues each member of a group would get",
		Long: "Shares a topic's queues out as clients do, among members that need not exist. Clients sort by their ids, host@instance, and so does this:\n" +
			"what `apogee group members` calls CLIENT fits. Which queues the members of a group have now is shown by `apogee group lag --clients`.",
		Example: "  apogee topic allocate orders --clients 10.0.0.1@billing,10.0.0.2@billing\n" +
			"  apogee topic allocate orders --clients a,b,c --strategy AVG_BY_CIRCLE --json",
		Args: takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			share := pop.Strategies[strategy]
			if share == nil {
				return usagef("--strategy %s: want AVG or AVG_BY_CIRCLE", strategy)
			}
			members, err := memberIDs(clients)
			if err != nil {
				return err
			}
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				route, err := cl.route(ctx, args[0])
				if err != nil {
					return err
				}
				list := allocate(args[0], queues(route, protocol.PermRead), members, share)
				return f.out.print(c, list, func(w io.Writer) error { return writeAllocations(w, list) })
			})
		},
	}
	f.add(c)
	fs := c.Flags()
	fs.StringSliceVar(&clients, "clients", nil, "client ids of the members, separated by commas")
	fs.StringVar(&strategy, "strategy", "AVG", "how: AVG, a row of queues each, as clients do unless told otherwise; AVG_BY_CIRCLE, in turn")
	completeArgs(c, topicNames)
	return c
}

// memberIDs returns the ids in the order in which members are counted.
func memberIDs(clients []string) ([]string, error) {
	ids := slices.Sorted(slices.Values(clients))
	for i, id := range ids {
		if strings.TrimSpace(id) == "" {
			return nil, usagef("--clients %q: an id is empty", strings.Join(clients, ","))
		}
		if i > 0 && id == ids[i-1] {
			return nil, usagef("--clients names %q twice", id)
		}
	}
	if len(ids) == 0 {
		return nil, usagef("--clients is missing: give the ids of the members, such as --clients a,b")
	}
	return ids, nil
}

func allocate(topic string, all []queue, members []string, share pop.Strategy) []allocation {
	slices.SortFunc(all, func(a, b queue) int { return cmp.Or(cmp.Compare(a.broker, b.broker), cmp.Compare(a.id, b.id)) })
	var list []protocol.MessageQueue
	for _, q := range all {
		list = append(list, protocol.MessageQueue{Topic: topic, BrokerName: q.broker, QueueID: q.id})
	}
	shares := make([]allocation, len(members))
	for i, member := range members {
		shares[i] = allocation{Client: member, Queues: []allocatedQueue{}}
		for _, q := range share(member, list, members) {
			shares[i].Queues = append(shares[i].Queues, allocatedQueue{q.BrokerName, q.QueueID})
		}
	}
	return shares
}

// writeAllocations has a row for each queue, and one for who gets none.
func writeAllocations(w io.Writer, list []allocation) error {
	t := newTable("CLIENT", "BROKER", "QUEUE")
	for _, a := range list {
		for _, q := range a.Queues {
			t.add(a.Client, q.Broker, q.Queue)
		}
		if len(a.Queues) == 0 {
			t.add(a.Client, "", "")
		}
	}
	return t.write(w)
}
