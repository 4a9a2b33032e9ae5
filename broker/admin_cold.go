package broker

import (
	"slices"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/broker/cold"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Cold data: UPDATE_COLD_DATA_FLOW_CTR_CONFIG (2001), REMOVE_COLD_DATA_FLOW_CTR_CONFIG (2002), GET_COLD_DATA_FLOW_CTR_INFO (2003),
// SET_COMMITLOG_READ_MODE (2004).
//
// What clients see, with coldDataFlowControlEnable: a group that has read more log than it may in 5 s, of what is farther from the log's end
// than memory reaches, is refused the next such pull with SYSTEM_BUSY; a group that pulls by itself is held for 3 s instead, and then gets one
// message. Other pulls of the group, and other groups, are not touched. 2004 sets until the next start whether blocks of the log are read
// ahead. Differences: memory is the log's own (memoryMax), not a part of the machine's; limits of groups outlive a restart; a limit
// that is no number is refused with 29, and nothing is changed.

const (
	// coldHold is how long a pull of cold data is held (ColdDataPullRequestHoldService).
	coldHold = 3000
	// Modes of 2004 (LibC's MADV_NORMAL and MADV_RANDOM).
	readAheadMode, readRandomMode = "0", "1"
)

// loadCold reads the limits of groups.
func (b *Broker) loadCold() error {
	return b.store.State(kindCold, func(group string, value []byte) error {
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err == nil {
			b.cold.SetLimit(group, n)
		}
		return err
	})
}

func (b *Broker) updateColdLimits(r *remoting.Request) (*remoting.Response, error) {
	changes, err := parseProperties(string(r.Body))
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	var mutations []store.Mutation
	limits := map[string]int64{}
	for _, c := range changes {
		n, err := strconv.ParseInt(c[1], 10, 64)
		if err != nil {
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "group %s: %q is not a whole number of bytes", c[0], c[1])
		}
		if len(c[0]) > groupNameBytesMax {
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "the group has %d bytes, the limit is groupNameBytesMax=%d; choose a shorter name: %.100q", len(c[0]), groupNameBytesMax, c[0])
		}
		limits[c[0]] = n
		mutations = append(mutations, store.Mutation{Key: c[0], Value: []byte(c[1])})
	}
	if have := len(b.cold.Info(b.live().cold).Limits); have+len(limits) > b.c.GroupsMax {
		return nil, protocol.Errorf(protocol.RespSystemError, "%d groups have limits of cold data, the limit is groupsMax=%d; remove some, or raise it", have, b.c.GroupsMax)
	}
	return nil, b.changeCold(r, mutations, func() {
		for group, n := range limits {
			b.cold.SetLimit(group, n)
		}
	})
}

func (b *Broker) removeColdLimit(r *remoting.Request) (*remoting.Response, error) {
	group := string(r.Body)
	if group == "" {
		return nil, nil
	}
	return nil, b.changeCold(r, []store.Mutation{{Key: group}}, func() { b.cold.Remove(group) })
}

// changeCold records changes of limits, has them hold and answers once they are durable.
func (b *Broker) changeCold(r *remoting.Request, mutations []store.Mutation, change func()) error {
	b.settingsMu.Lock()
	defer b.settingsMu.Unlock()
	if err := b.update(kindCold, func(err error) { r.Reply(nil, err) }, mutations...); err != nil {
		return sendFailure(err)
	}
	change()
	return remoting.ErrLater
}

func (b *Broker) coldInfo(*remoting.Request) (*remoting.Response, error) {
	return remoting.RespondBody(b.cold.Info(b.live().cold)), nil
}

func (b *Broker) setReadMode(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ReadModeHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	switch h.Mode {
	case readAheadMode, readRandomMode:
	default:
		if _, err := strconv.ParseInt(h.Mode, 10, 32); err != nil {
			return nil, protocol.Errorf(protocol.RespSystemError, "set commitlog readahead mode failed: READ_AHEAD_MODE=%q, want 0 (read ahead) or 1", h.Mode)
		}
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "set commitlog readahead mode param value error: READ_AHEAD_MODE=%s, want 0 (read ahead) or 1", h.Mode)
	}
	b.store.Log().SetReadAhead(h.Mode == readAheadMode)
	resp := remoting.Respond(protocol.RespSuccess, nil)
	resp.Remark = []byte("set commitlog readahead mode success, mode: " + h.Mode)
	return resp, nil
}

// coldExempt tells whether a group may read cold data as it likes (MixAll.isSysConsumerGroupPullMessage).
func coldExempt(group string) bool {
	return isSystemGroup(group) || slices.Contains(systemGroups, group) ||
		slices.Contains([]string{"DEFAULT_CONSUMER", "SCHEDULE_CONSUMER", "__MONITOR_CONSUMER", "CID_ONS-HTTP-PROXY"}, strings.TrimSpace(group))
}

// checkCold refuses a pull of cold data of a group that has read too much, or holds it; held tells that.
func (p *pull) checkCold() (held bool, err error) {
	o := p.b.live().cold
	if !o.Enabled || coldExempt(p.h.Group) || !p.b.cold.Exhausted(p.h.Group, o) || !p.b.store.IsCold(p.queue, p.h.QueueOffset) {
		return false, nil
	}
	if p.b.clients.consumeType(p.h.Group) == protocol.ConsumePassively {
		return false, protocol.Errorf(protocol.RespSystemBusy, "This consumer group is reading cold data. It has been flow control")
	}
	if err := p.checkHeld(); err != nil {
		return false, err
	}
	p.h.MaxMessages = 1
	wait := p.b.newHeld(p, coldHold)
	wait.cold = true
	p.b.addHeld(wait)
	return true, nil
}

// readCold notes what a pull has read of cold data.
func (p *pull) readCold(result *store.Result) {
	if result.ColdBytes > 0 && p.b.live().cold.Enabled && !coldExempt(p.h.Group) {
		p.b.cold.Read(p.h.Group, int64(result.ColdBytes), p.began)
	}
}

func coldProperties() []property {
	options := func(s *settings) *cold.Options { return &s.cold }
	return []property{
		numberProperty("cgColdReadThreshold", 0, 1<<50, func(s *settings) *int64 { return &options(s).GroupBytes }),
		switchProperty("coldCtrStrategyEnable", func(s *settings) *bool { return &options(s).Adaptive }),
		switchProperty("coldDataFlowControlEnable", func(s *settings) *bool { return &options(s).Enabled }),
		numberProperty("globalColdReadThreshold", 0, 1<<50, func(s *settings) *int64 { return &options(s).GlobalBytes }),
		switchProperty("usePIDColdCtrStrategy", func(s *settings) *bool { return &options(s).PID }),
	}
}
