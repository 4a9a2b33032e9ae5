package namesrv

import (
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// row is one request code: how it is served and what it needs.
type row struct {
	code   protocol.RequestCode
	lane   remoting.Lane
	action remoting.Action
	serve  func(*call) (*remoting.Response, error)
}

func (n *NameServer) rows() []row {
	const beat, pull, admin = remoting.LaneHeartbeat, remoting.LanePull, remoting.LaneAdmin
	const none, get, list, update = remoting.ActionNone, remoting.ActionGet, remoting.ActionList, remoting.ActionUpdate
	return []row{
		{protocol.ReqPutKVConfig, admin, update, n.putKV},                                        // 100
		{protocol.ReqGetKVConfig, admin, get, n.getKV},                                           // 101
		{protocol.ReqDeleteKVConfig, admin, update, n.deleteKV},                                  // 102
		{protocol.ReqRegisterBroker, beat, update, n.registerBroker},                             // 103
		{protocol.ReqUnregisterBroker, beat, update, n.unregisterBroker},                         // 104
		{protocol.ReqGetRouteInfoByTopic, pull, none, n.routeInfo},                               // 105
		{protocol.ReqGetBrokerClusterInfo, admin, none, n.clusterInfo},                           // 106
		{protocol.ReqWipeWritePermOfBroker, admin, update, n.wipeWritePerm},                      // 205
		{protocol.ReqGetAllTopicListFromNameserver, admin, list, n.allTopics},                    // 206
		{protocol.ReqDeleteTopicInNamesrv, admin, update, n.deleteTopic},                         // 216
		{protocol.ReqRegisterTopicInNamesrv, beat, update, n.registerTopic},                      // 217
		{protocol.ReqGetKVListByNamespace, admin, get, n.listKV},                                 // 219
		{protocol.ReqGetTopicsByCluster, admin, list, n.clusterTopics},                           // 224
		{protocol.ReqGetSystemTopicListFromNS, admin, list, n.systemTopics},                      // 304
		{protocol.ReqGetUnitTopicList, admin, list, n.flaggedTopics(unit, unit)},                 // 311
		{protocol.ReqGetHasUnitSubTopicList, admin, list, n.flaggedTopics(unitSub, unitSub)},     // 312
		{protocol.ReqGetHasUnitSubUnunitTopicList, admin, list, n.flaggedTopics(bothU, unitSub)}, // 313
		{protocol.ReqUpdateNamesrvConfig, admin, update, n.updateConfig},                         // 318
		{protocol.ReqGetNamesrvConfig, admin, get, n.getConfig},                                  // 319
		{protocol.ReqQueryDataVersion, beat, get, n.queryDataVersion},                            // 322
		{protocol.ReqAddWritePermOfBroker, admin, update, n.addWritePerm},                        // 327
		{protocol.ReqGetBrokerMemberGroup, beat, get, n.memberGroup},                             // 901
		{protocol.ReqBrokerHeartbeat, beat, update, n.heartbeat},                                 // 904
	}
}

// Routes returns the name server's requests.
func (n *NameServer) Routes() []remoting.Route {
	var routes []remoting.Route
	for _, w := range n.rows() {
		routes = append(routes, remoting.Route{Code: w.code, Lane: w.lane, Action: w.action,
			Handle: func(r *remoting.Request) (*remoting.Response, error) {
				c := call{Request: r, now: n.time(r)}
				if r.Conn != nil {
					c.peer = r.Conn
				}
				return w.serve(&c)
			}})
	}
	return routes
}
