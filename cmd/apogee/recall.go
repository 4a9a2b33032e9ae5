package main

import (
	"context"
	"fmt"

	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newRecallCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "recall TOPIC HANDLE",
		Short: "Recall a message that waits for its moment",
		Long: "Deletes a message that was sent with --delay or --deliver-at and has not been delivered. Its send printed the handle, which names topic,\n" +
			"broker, moment and id. It succeeds too when there is no such message, as in RocketMQ.",
		Args: takes("topic", "handle"),
		RunE: func(c *cobra.Command, args []string) error {
			handle, err := protocol.ParseRecallHandle(args[1])
			if err != nil {
				return asUsage(err)
			}
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				id, err := cl.recall(ctx, args[0], handle)
				if err != nil {
					return err
				}
				return f.out.say(c, map[string]string{"id": id}, "recalled %s of topic %s", id, args[0])
			})
		},
	}
	f.add(c)
	completeArgs(c, topicNames)
	return c
}

func (c *cluster) recall(ctx context.Context, topic string, handle protocol.RecallHandle) (id string, err error) {
	brokers, err := c.brokers(ctx, scope{})
	if err != nil {
		return "", err
	}
	for _, b := range brokers {
		if b.name != handle.Broker {
			continue
		}
		var r protocol.RecallResult
		h := &protocol.RecallHeader{ProducerGroup: producerGroup, Topic: topic, Handle: handle.String()}
		_, err := c.ask(ctx, b.addr, request{code: protocol.ReqRecallMessage, header: h}, &r)
		if isCode(err, protocol.RespNoPermission) {
			err = fmt.Errorf("%w\nRocketMQ takes recalls where recallMessageEnable=true, which is not its default: `apogee cluster config set recallMessageEnable=true`", err)
		}
		return r.MessageID, err
	}
	return "", fmt.Errorf("the handle is of broker %q, which is not registered", handle.Broker)
}
