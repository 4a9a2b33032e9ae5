package protocol

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// every header type, for what a frame's fields may be decoded into.
func everyHeader() []Header {
	return []Header{
		&TablePageHeader{}, &TablePageResult{}, &VersionResult{}, &NamedGroupHeader{}, &ProducerGroupHeader{}, &DeleteGroupHeader{}, &ReadModeHeader{},
		&ConsumeStatsHeader{}, &TopicGroupHeader{}, &ResetOffsetHeader{}, &ClientHeader{}, &CloneOffsetHeader{}, &StatsHeader{}, &OrderHeader{},
		&QueryConsumeQueueHeader{}, &CorrectionOffsetHeader{}, &ForbiddenHeader{}, &SendHeader{}, &SendHeader{Short: true}, &SendResult{}, &ReplyHeader{},
		&RecallHeader{}, &RecallResult{}, &PullHeader{}, &PullResult{}, &QueueHeader{}, &OffsetResult{}, &TimestampResult{}, &ConsumerOffsetHeader{},
		&ConsumerOffsetHeader{Update: true}, &UnregisterClientHeader{}, &GroupHeader{}, &HeartbeatResult{}, &QueryMessageHeader{}, &QueryMessageResult{},
		&ViewMessageHeader{}, &EndTransactionHeader{}, &CheckTransactionHeader{}, &ResumeCheckHeader{}, &TopicHeader{}, &CreateTopicHeader{},
		&PopLiteHeader{}, &NotifyUnsubscribeLiteHeader{}, &LiteTopicHeader{}, &LiteClientHeader{}, &LiteGroupHeader{}, &LiteDispatchHeader{},
		&RegisterBrokerHeader{}, &RegisterBrokerResult{}, &BrokerHeader{}, &DataVersionResult{}, &WipePermResult{}, &AddPermResult{}, &KVHeader{},
		&KVResult{}, &RouteHeader{}, &ClusterHeader{}, &DeleteTopicHeader{}, &NotifyMinBrokerHeader{}, &PopHeader{}, &PopResult{}, &PeekHeader{},
		&AckHeader{}, &ChangeInvisibleResult{}, &NotificationHeader{}, &NotificationResult{}, &PollingInfoHeader{}, &PollingInfoResult{}, &SendBackHeader{},
	}
}

// every body type, those that stand within others included.
func everyBody() []any {
	return []any{
		&DataVersion{}, &TopicConfig{}, &TopicConfigTable{}, &RegisterBrokerBody{}, &KVTable{}, &QueueData{}, &BrokerData{}, &TopicRoute{}, &ClusterInfo{},
		&TopicList{}, &BrokerMemberGroup{}, &Heartbeat{}, &ProducerData{}, &ConsumerData{}, &SubscriptionData{}, &MessageQueue{}, &LockBatchBody{},
		&LockBatchResult{}, &ConsumerList{}, &SubscriptionGroupConfig{}, &TopicOffset{}, &TopicStats{}, &OffsetWrapper{}, &ConsumeStats{},
		&GroupConsumeStats{}, &ConsumeStatsList{}, &ResetOffsetBody{}, &ConsumerStatus{}, &GroupTable{}, &GroupConfigList{}, &TopicConfigList{}, &GroupList{},
		&GroupForbidden{}, &Connection{}, &ConsumerConnection{}, &ProducerConnection{}, &ProducerInfo{}, &ProducerTable{}, &BrokerStatsItem{}, &BrokerStats{},
		&QueueTimeSpan{}, &ConsumeTimeSpans{}, &GroupSubscription{}, &ConsumeQueueData{}, &ConsumeQueueResult{}, &CorrectionOffsets{}, &CheckClientBody{},
		&TimerMetrics{}, &TimerMetric{}, &LiteSubscription{}, &LiteOffset{}, &LiteSubscriptions{}, &BrokerLiteInfo{}, &ParentTopicInfo{}, &ClientGroup{},
		&LiteTopicInfo{}, &LiteClientInfo{}, &LiteLag{}, &LiteGroupInfo{}, &BatchAckBody{}, &BatchAck{}, &RequestMode{}, &RequestModes{}, &QueryAssignment{},
		&QueueAssignment{}, &Assignments{},
	}
}

// TestEveryTypeIsFuzzed compares the two lists with the source: what has a visit is a header, an exported struct of bodies*.go is a body.
func TestEveryTypeIsFuzzed(t *testing.T) {
	var headers, bodies []string
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if name := headerOf(d); name != "" {
				headers = append(headers, name)
			}
			if strings.HasPrefix(path, "bodies") {
				bodies = append(bodies, structsOf(d)...)
			}
		}
	}
	if diff := cmp.Diff(sorted(headers), namesOf(everyHeader())); diff != "" {
		t.Errorf("everyHeader (-source +list)\n%s", diff)
	}
	if diff := cmp.Diff(sorted(bodies), namesOf(everyBody())); diff != "" {
		t.Errorf("everyBody (-source +list)\n%s", diff)
	}
}

// headerOf names the type that a method called visit belongs to.
func headerOf(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Recv == nil || f.Name.Name != "visit" {
		return ""
	}
	return f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name
}

// structsOf names the exported structs that are declared, without the generic ones.
func structsOf(d ast.Decl) (names []string) {
	g, ok := d.(*ast.GenDecl)
	if !ok {
		return nil
	}
	for _, spec := range g.Specs {
		s, ok := spec.(*ast.TypeSpec)
		if !ok || !s.Name.IsExported() || s.TypeParams != nil {
			continue
		}
		if _, ok := s.Type.(*ast.StructType); ok {
			names = append(names, s.Name.Name)
		}
	}
	return names
}

func namesOf[T any](values []T) (names []string) {
	for _, v := range values {
		names = append(names, reflect.TypeOf(v).Elem().Name())
	}
	return sorted(names)
}

func sorted(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// allocated returns how many bytes f allocates, and all else that runs meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
