package server

import (
	"context"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// registrar registers the broker with name servers of other processes: at once, every registerNameServerPeriod, and after each change
// of the topic table.
type registrar struct {
	s       *Server
	addrs   []string
	changed chan struct{}
	done    chan struct{}
	cancel  context.CancelFunc
}

func newRegistrar(s *Server) *registrar {
	r := &registrar{s: s, changed: make(chan struct{}, 1), done: make(chan struct{})}
	for a := range strings.SplitSeq(s.c.NamesrvAddr, ";") {
		if a = strings.TrimSpace(a); a != "" {
			r.addrs = append(r.addrs, a)
		}
	}
	return r
}

func (r *registrar) start(ctx context.Context) {
	r.s.broker.OnTopicsChanged(func() {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	})
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go r.run(ctx)
}

func (r *registrar) run(ctx context.Context) {
	defer close(r.done)
	t := time.NewTicker(r.s.c.RegisterPeriod)
	defer t.Stop()
	for {
		r.each(func(addr string) { r.registerWith(ctx, addr) })
		select {
		case <-t.C:
		case <-r.changed:
		case <-ctx.Done():
			return
		}
	}
}

// each calls f for every name server at once: one that does not answer must not delay the others.
func (r *registrar) each(f func(addr string)) {
	var wait sync.WaitGroup
	for _, addr := range r.addrs {
		wait.Go(func() { f(addr) })
	}
	wait.Wait()
}

func (r *registrar) registerWith(ctx context.Context, addr string) {
	ctx, cancel := context.WithTimeout(ctx, r.s.c.RegisterPeriod)
	defer cancel()
	body := protocol.MarshalBody(protocol.RegisterBrokerBody{Topics: r.s.broker.TopicTable(), Filters: []string{}})
	self, err := r.self(ctx, addr)
	if err == nil {
		c := protocol.NewRequest(protocol.ReqRegisterBroker, &protocol.RegisterBrokerHeader{
			BrokerName: r.s.c.BrokerName, BrokerAddr: self, ClusterName: r.s.c.Cluster, BrokerID: r.s.c.BrokerID,
			BodyCRC: int32(crc32.ChecksumIEEE(body) & 0x7fffffff),
		})
		c.Body = body
		var resp *protocol.Command
		if resp, err = r.s.client.Invoke(ctx, addr, c); err == nil {
			err = resp.Check()
		}
	}
	if err != nil && ctx.Err() == nil {
		r.s.log.Warn("cannot register with a name server", "addr", addr, "error", err)
	}
}

// self is the broker's address as that name server's clients are told: the advertised one, else that of our connection to it.
func (r *registrar) self(ctx context.Context, addr string) (string, error) {
	port := strconv.Itoa(r.s.broker.Port())
	if r.s.c.Advertise != "" {
		return net.JoinHostPort(r.s.c.Advertise, port), nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(local.Addr().Unmap(), uint16(r.s.broker.Port())).String(), nil
}

// stop ends the registrations.
func (r *registrar) stop(ctx context.Context) {
	r.cancel()
	<-r.done
	r.each(func(addr string) {
		self, err := r.self(ctx, addr)
		if err != nil {
			return // a name server that is gone has nothing to forget
		}
		_, err = r.s.client.Invoke(ctx, addr, protocol.NewRequest(protocol.ReqUnregisterBroker, &protocol.BrokerHeader{
			BrokerName: r.s.c.BrokerName, BrokerAddr: self, ClusterName: r.s.c.Cluster, BrokerID: r.s.c.BrokerID,
		}))
		if err != nil {
			r.s.log.Warn("cannot unregister from a name server", "addr", addr, "error", err)
		}
	})
}
