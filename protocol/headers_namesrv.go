package protocol

// RegisterBrokerHeader is REGISTER_BROKER's.
type RegisterBrokerHeader struct {
	BrokerName, BrokerAddr, ClusterName, HAServerAddr string
	BrokerID                                          int64
	HeartbeatTimeoutMS                                int64
	EnableActingMaster                                string // absent: a broker that does not know it
	Compressed                                        bool
	BodyCRC                                           int32
	Zone                                              string
}

func (h *RegisterBrokerHeader) visit(v *visitor) {
	v.str("brokerName", &h.BrokerName, required)
	v.str("brokerAddr", &h.BrokerAddr, required)
	v.str("clusterName", &h.ClusterName, required)
	v.str("haServerAddr", &h.HAServerAddr, required)
	v.i64("brokerId", &h.BrokerID, required)
	v.i64("heartbeatTimeoutMillis", &h.HeartbeatTimeoutMS, optional)
	v.str("enableActingMaster", &h.EnableActingMaster, optional)
	v.boolean("compressed", &h.Compressed, optional)
	v.i32("bodyCrc32", &h.BodyCRC, optional)
	v.str("__ZONE_NAME", &h.Zone, optional)
}

// RegisterBrokerResult answers REGISTER_BROKER.
type RegisterBrokerResult struct{ HAServerAddr, MasterAddr string }

func (h *RegisterBrokerResult) visit(v *visitor) {
	v.str("haServerAddr", &h.HAServerAddr, optional)
	v.str("masterAddr", &h.MasterAddr, optional)
}

// BrokerHeader names a broker: UNREGISTER_BROKER, QUERY_DATA_VERSION, BROKER_HEARTBEAT, WIPE/ADD_WRITE_PERM, GET_BROKER_MEMBER_GROUP.
// Which fields are required differs by code; the name server checks those that it uses.
type BrokerHeader struct {
	BrokerName, BrokerAddr, ClusterName string
	BrokerID                            int64
}

func (h *BrokerHeader) visit(v *visitor) {
	v.str("brokerName", &h.BrokerName, required)
	v.str("brokerAddr", &h.BrokerAddr, optional)
	v.str("clusterName", &h.ClusterName, optional)
	v.i64("brokerId", &h.BrokerID, optional)
}

// DataVersionResult answers QUERY_DATA_VERSION.
type DataVersionResult struct{ Changed bool }

func (h *DataVersionResult) visit(v *visitor) { v.boolean("changed", &h.Changed, required) }

// WipePermResult answers WIPE_WRITE_PERM_OF_BROKER.
type WipePermResult struct{ Topics int32 }

func (h *WipePermResult) visit(v *visitor) { v.i32("wipeTopicCount", &h.Topics, required) }

// AddPermResult answers ADD_WRITE_PERM_OF_BROKER.
type AddPermResult struct{ Topics int32 }

func (h *AddPermResult) visit(v *visitor) { v.i32("addTopicCount", &h.Topics, required) }

// KVHeader is PUT_KV_CONFIG's, GET_KV_CONFIG's, DELETE_KV_CONFIG's and GET_KVLIST_BY_NAMESPACE's.
type KVHeader struct{ Namespace, Key, Value string }

func (h *KVHeader) visit(v *visitor) {
	v.str("namespace", &h.Namespace, required)
	v.str("key", &h.Key, optional)
	v.str("value", &h.Value, optional)
}

// KVResult answers GET_KV_CONFIG.
type KVResult struct{ Value string }

func (h *KVResult) visit(v *visitor) { v.str("value", &h.Value, optional) }

// RouteHeader is GET_ROUTEINFO_BY_TOPIC's.
type RouteHeader struct {
	Topic              string
	AcceptStandardJSON bool
	ZoneMode           bool
	Zone               string
}

func (h *RouteHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, required)
	v.boolean("acceptStandardJsonOnly", &h.AcceptStandardJSON, optional)
	v.boolean("__ZONE_MODE", &h.ZoneMode, optional)
	v.str("__ZONE_NAME", &h.Zone, optional)
}

// ClusterHeader is GET_TOPICS_BY_CLUSTER's.
type ClusterHeader struct{ Cluster string }

func (h *ClusterHeader) visit(v *visitor) { v.str("cluster", &h.Cluster, required) }

// DeleteTopicHeader is DELETE_TOPIC_IN_NAMESRV's.
type DeleteTopicHeader struct{ Topic, ClusterName string }

func (h *DeleteTopicHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, required)
	v.str("clusterName", &h.ClusterName, optional)
}

// NotifyMinBrokerHeader is NOTIFY_MIN_BROKER_ID_CHANGE's, which the name server pushes to a broker.
type NotifyMinBrokerHeader struct {
	MinBrokerID                                                int64
	BrokerName, MinBrokerAddr, OfflineBrokerAddr, HABrokerAddr string
}

func (h *NotifyMinBrokerHeader) visit(v *visitor) {
	v.i64("minBrokerId", &h.MinBrokerID, required) // 0 is a value
	v.str("brokerName", &h.BrokerName, optional)
	v.str("minBrokerAddr", &h.MinBrokerAddr, optional)
	v.str("offlineBrokerAddr", &h.OfflineBrokerAddr, optional)
	v.str("haBrokerAddr", &h.HABrokerAddr, optional)
}
