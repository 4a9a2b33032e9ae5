package interop

import (
	"slices"
	"testing"

	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/apogeemq/apogee/interop/go/harness"
)

func TestAdminCreatesListsAndDeletesATopic(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 7)
	send(t, newProducer(t, c), primitive.NewMessage(topic, []byte("body")))
	a := newAdmin(t, c)
	listed := func() bool {
		list, err := a.FetchAllTopicList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(list.TopicList, topic)
	}
	if !listed() {
		t.Fatalf("topic %s is not in the list", topic)
	}
	err := a.DeleteTopic(t.Context(), admin.WithTopicDelete(topic), admin.WithBrokerAddrDelete(c.Broker),
		admin.WithNameSrvAddr([]string{c.NameServer}))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the topic to go from the list", func() bool { return !listed() })
	if queues := queuesOf(t, c, topic); len(queues) != 0 {
		t.Errorf("the deleted topic has a route: %v", queues)
	}
}

func TestAdminSeesTheGroupOfAConsumer(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic, group := newTopic(t, c, 1), unique(t)
	var in inbox
	startPush(t, c, group, topic, everything, &in)
	a := newAdmin(t, c)
	eventually(t, "the group among the broker's", func() bool {
		groups, err := a.GetAllSubscriptionGroup(t.Context(), c.Broker, waitMax)
		if err != nil {
			t.Fatal(err)
		}
		_, there := groups.SubscriptionGroupTable[group]
		return there
	})
}
