package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// topicGroup is a group of a topic.
type topicGroup struct {
	Group   string  `json:"group"`
	Members int     `json:"members"`
	Lag     int64   `json:"lag"`
	Behind  float64 `json:"behind_seconds"`
}

func newTopicGroupsCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "groups NAME",
		Short: "List the groups that consume a topic, with their lag in it",
		Args:  takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				list, err := cl.topicGroups(ctx, args[0])
				if err != nil {
					return err
				}
				t := newTable("GROUP", "MEMBERS", "LAG", "BEHIND")
				for _, g := range list {
					t.add(g.Group, g.Members, g.Lag, behindText(g.Behind))
				}
				return f.out.print(c, list, t.write)
			})
		},
	}
	f.add(c)
	completeArgs(c, topicNames)
	return c
}

// groupsOf returns the groups that subscribe to a topic or have offsets of it, sorted.
func (c *cluster) groupsOf(ctx context.Context, topic string, brokers []broker) (names []string, err error) {
	for _, b := range brokers {
		list, err := fetch[protocol.GroupList](ctx, c, b.addr, protocol.ReqQueryTopicConsumeByWho, &protocol.TopicHeader{Topic: topic})
		if err != nil {
			return nil, err
		}
		names = append(names, list.Groups...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (c *cluster) topicGroups(ctx context.Context, topic string) ([]topicGroup, error) {
	brokers, err := c.topicBrokers(ctx, topic, scope{})
	if err != nil {
		return nil, err
	}
	names, err := c.groupsOf(ctx, topic, brokers)
	if err != nil {
		return nil, err
	}
	out := make([]topicGroup, len(names))
	return out, each(len(names), func(i int) error {
		m, err := c.members(ctx, names[i], brokers)
		if err != nil {
			return err
		}
		p, err := c.progress(ctx, names[i], topic, brokers)
		if err != nil {
			return err
		}
		out[i] = topicGroup{names[i], len(m.Members), p.Lag, p.Behind}
		return nil
	})
}

// traffic is what went in or out.
type traffic struct {
	Topic     string  `json:"topic"`
	Group     string  `json:"group,omitempty"` // what it was given; empty: what was sent to the topic
	PerSecond float64 `json:"messages_per_second"`
	Minute    int64   `json:"messages_in_minute"`
	Hour      int64   `json:"messages_in_hour"`
	Day       int64   `json:"messages_in_day"`
}

func newTopicStatsCommand() *cobra.Command {
	var f clusterFlags
	var active bool
	c := &cobra.Command{
		Use:   "stats [NAME...]",
		Short: "Show what topics are sent, and what groups are given of them",
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				topics := args
				if len(topics) == 0 {
					var err error
					if topics, err = topicNames(ctx, cl); err != nil {
						return err
					}
				}
				list, t := []traffic{}, newTable("TOPIC", "GROUP", "MESSAGES/S", "IN 1 MINUTE", "IN 1 HOUR", "IN 24 HOURS")
				for _, topic := range topics {
					rows, err := cl.traffic(ctx, topic)
					if err != nil {
						return err
					}
					for _, r := range rows {
						if active && r.Day == 0 {
							continue
						}
						list = append(list, r)
						t.add(r.Topic, r.Group, rate(r.PerSecond), r.Minute, r.Hour, r.Day)
					}
				}
				return f.out.print(c, list, t.write)
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&active, "active", false, "leave out what had no message in 24 hours")
	c.ValidArgsFunction = completions(topicNames)
	return c
}

// traffic returns what a topic was sent, and what each of its groups was given.
func (c *cluster) traffic(ctx context.Context, topic string) ([]traffic, error) {
	brokers, err := c.topicBrokers(ctx, topic, scope{})
	if err != nil {
		return nil, err
	}
	groups, err := c.groupsOf(ctx, topic, brokers)
	if err != nil {
		return nil, err
	}
	rows := []traffic{{Topic: topic}}
	for _, g := range groups {
		rows = append(rows, traffic{Topic: topic, Group: g})
	}
	return rows, each(len(rows), func(i int) error {
		r := &rows[i]
		h := &protocol.StatsHeader{Name: "TOPIC_PUT_NUMS", Key: topic}
		if r.Group != "" {
			h = &protocol.StatsHeader{Name: "GROUP_GET_NUMS", Key: fmt.Sprintf("%s@%s", topic, r.Group)}
		}
		for _, b := range brokers {
			s, err := fetch[protocol.BrokerStats](ctx, c, b.addr, protocol.ReqViewBrokerStatsData, h)
			if isCode(err, protocol.RespSystemError) {
				continue // nothing has been counted since the broker's start
			}
			if err != nil {
				return err
			}
			r.PerSecond += s.Minute.TPS
			r.Minute, r.Hour, r.Day = r.Minute+s.Minute.Sum, r.Hour+s.Hour.Sum, r.Day+s.Day.Sum
		}
		return nil
	})
}
