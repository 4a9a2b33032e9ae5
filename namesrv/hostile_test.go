package namesrv_test

import (
	"slices"
	"testing"

	"github.com/apogeemq/apogee/namesrv"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/protocol/hostile"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/apogeemq/apogee/server/servertest"
)

// requests has one for every code, each of which succeeds behind those before it.
func requests() []hostile.Request {
	type fields = map[string]string
	broker := fields{"brokerName": "far", "brokerAddr": "192.0.2.1:10911", "clusterName": "c", "brokerId": "0"}
	register := fields{"brokerName": "far", "brokerAddr": "192.0.2.1:10911", "clusterName": "c", "brokerId": "0", "haServerAddr": "192.0.2.1:10912",
		"heartbeatTimeoutMillis": "60000", "enableActingMaster": "true", "compressed": "false", "bodyCrc32": "0"}
	pair := fields{"namespace": "ns", "key": "k", "value": "v"}
	topic := fields{"topic": "Far", "clusterName": "c"}
	const topics = `{"topicConfigSerializeWrapper":{"dataVersion":{"counter":1},"topicConfigTable":{` +
		`"Far":{"topicName":"Far","readQueueNums":4,"writeQueueNums":4,"perm":6},"Other":{"topicName":"Other","readQueueNums":4,"writeQueueNums":4,"perm":6}}}}`
	return []hostile.Request{
		{Code: protocol.ReqPutKVConfig, Fields: pair},
		{Code: protocol.ReqGetKVConfig, Fields: pair},
		{Code: protocol.ReqGetKVListByNamespace, Fields: pair},
		{Code: protocol.ReqDeleteKVConfig, Fields: pair},
		{Code: protocol.ReqRegisterBroker, Fields: register, Body: topics},
		{Code: protocol.ReqQueryDataVersion, Fields: broker, Body: `{"counter":1}`},
		{Code: protocol.ReqBrokerHeartbeat, Fields: broker},
		{Code: protocol.ReqGetBrokerMemberGroup, Fields: broker},
		{Code: protocol.ReqRegisterTopicInNamesrv, Fields: topic, Body: `{"queueDatas":[{"brokerName":"far","readQueueNums":4,"writeQueueNums":4,"perm":6}]}`},
		{Code: protocol.ReqGetRouteInfoByTopic, Fields: fields{"topic": "Far", "acceptStandardJsonOnly": "true", "__ZONE_MODE": "false", "__ZONE_NAME": "z"}},
		{Code: protocol.ReqGetBrokerClusterInfo},
		{Code: protocol.ReqWipeWritePermOfBroker, Fields: broker},
		{Code: protocol.ReqAddWritePermOfBroker, Fields: broker},
		{Code: protocol.ReqGetAllTopicListFromNameserver},
		{Code: protocol.ReqGetTopicsByCluster, Fields: fields{"cluster": "c"}},
		{Code: protocol.ReqGetSystemTopicListFromNS},
		{Code: protocol.ReqGetUnitTopicList},
		{Code: protocol.ReqGetHasUnitSubTopicList},
		{Code: protocol.ReqGetHasUnitSubUnunitTopicList},
		{Code: protocol.ReqUpdateNamesrvConfig, Body: "waitSecondsForService=40\n"},
		{Code: protocol.ReqGetNamesrvConfig},
		{Code: protocol.ReqDeleteTopicInNamesrv, Fields: topic},
		{Code: protocol.ReqUnregisterBroker, Fields: broker},
	}
}

// TestHostileFieldsAndBodies has every request carry what it should not: the name server answers each, and says what was wrong.
func TestHostileFieldsAndBodies(t *testing.T) {
	node := servertest.Start(t, func(c *server.Config) { c.LogLevel = "error" })
	client := remoting.NewClient(remoting.ClientConfig{})
	defer client.Close()
	ask := func(c *protocol.Command) (*protocol.Command, error) {
		return client.Invoke(t.Context(), node.NamesrvAddr(), c)
	}
	var names []string
	covered := map[protocol.RequestCode]bool{}
	all := requests()
	succeed := func() {
		t.Helper()
		for _, r := range all {
			if answer, err := ask(r.Command()); err != nil || answer.Check() != nil {
				t.Fatalf("%s: %v, %v", r.Code, answer, err)
			}
		}
	}
	succeed()
	for _, r := range all {
		covered[r.Code] = true
		for name := range r.Fields {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, r := range all {
		hostile.Check(t, r, names, ask)
	}
	for _, r := range new(namesrv.NameServer).Routes() {
		if !covered[r.Code] {
			t.Errorf("nothing hostile sends %s", r.Code)
		}
	}
	succeed()
}
