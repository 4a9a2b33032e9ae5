package namesrv

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Peer is what the name server uses of a connection.
type Peer interface {
	LocalAddr() netip.AddrPort
	OnClose(func())
	Close(reason string)
}

// Options are what a name server is made of.
type Options struct {
	Config  Config
	FS      vfs.FS
	Dir     string // the node's directory; it exists
	Started time.Time
	// Push sends a one-way request to a broker's own address, which RocketMQ's brokers do not serve on the connection over which
	// they registered. It must not block. Needed for notifyMinBrokerIdChanged only.
	Push func(addr string, c *protocol.Command)
	Log  *slog.Logger
}

// NameServer is a name server. Its methods may be called from any goroutine.
type NameServer struct {
	o      Options
	cache  routeCache
	fileMu sync.Mutex // orders writers of the files; taken before mu

	mu       sync.RWMutex // guards what follows; never held during I/O
	table    *table
	hooked   map[Peer]struct{} // connections whose close is watched
	lastTick time.Time
	lastScan time.Time
}

// New opens a name server. A file that cannot be read is an error: it is never reset.
func New(o Options) (*NameServer, error) {
	settings, err := loadSettings(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	for _, s := range settings {
		if err := o.Config.Set(s.name, s.value); err != nil {
			return nil, fmt.Errorf("cannot use %q: %w", o.FS.PathJoin(o.Dir, settingsFile), err)
		}
	}
	if err := checkConfig(&o.Config, &o); err != nil {
		return nil, err
	}
	kv, err := loadKV(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, s := range settings {
		o.Log.Info("option set at run time", "name", s.name, "value", s.value)
	}
	return &NameServer{o: o, table: newTable(o.Config, kv), hooked: map[Peer]struct{}{}, lastTick: o.Started, lastScan: o.Started}, nil
}

func checkConfig(c *Config, o *Options) error {
	switch {
	case c.ScanInterval <= 0 || c.WaitForService <= 0:
		return errors.New("scanNotActiveBrokerInterval and waitSecondsForService must be positive")
	case c.NotifyMinBrokerIDChanged && o.Push == nil:
		return protocol.Errorf(protocol.RespInvalidParameter, "option notifyMinBrokerIdChanged: this node cannot push to brokers")
	}
	return nil
}

// Tick looks for brokers that fell silent, when it is time to. Call it about once a second.
func (n *NameServer) Tick(now time.Time) {
	n.mu.Lock()
	n.lastTick = now
	var e effects
	if now.Sub(n.lastScan) >= n.table.cfg.ScanInterval {
		n.lastScan = now
		e = n.table.expire(now)
	}
	n.mu.Unlock()
	n.apply(e)
}

// time returns when the request came; one from inside the process comes at the last tick.
func (n *NameServer) time(r *remoting.Request) time.Time {
	if !r.Received.IsZero() {
		return r.Received
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.lastTick
}

// watch makes the end of a connection end the registrations made over it. The caller holds mu, has registered already, and calls the
// returned function without mu: a connection that ended meanwhile takes its registrations with it at once.
func (n *NameServer) watch(conn Peer) func() {
	if _, known := n.hooked[conn]; conn == nil || known {
		return func() {}
	}
	n.hooked[conn] = struct{}{}
	return func() { conn.OnClose(func() { n.connClosed(conn) }) }
}

func (n *NameServer) connClosed(conn Peer) {
	n.mu.Lock()
	delete(n.hooked, conn)
	e := n.table.closed(conn)
	n.mu.Unlock()
	n.apply(e)
}

// apply does what the table asked for. The lock is not held.
func (n *NameServer) apply(e effects) {
	for _, ev := range e.events {
		n.o.Log.Info(ev.what, "cluster", ev.key.cluster, "broker", ev.name, "id", ev.id, "addr", ev.key.addr.text)
	}
	for _, p := range e.pushes {
		c := protocol.NewRequest(protocol.ReqNotifyMinBrokerIDChange, &p.header)
		c.Flag |= protocol.FlagOneWay
		n.o.Push(p.addr, c)
	}
	for _, c := range e.closing {
		c.Close("its broker fell silent")
	}
}

// call is a request as handlers see it.
type call struct {
	*remoting.Request
	peer Peer // nil inside the process
	now  time.Time
}

// asker is this end of the connection: where the client reached us.
func (c *call) asker() netip.Addr {
	if c.peer == nil {
		return netip.Addr{}
	}
	return c.peer.LocalAddr().Addr()
}

// decode reads the header and refuses a request that lacks one of the fields. RocketMQ does not check: it works with nulls.
func (c *call) decode(h protocol.Header, fields ...string) error {
	if err := protocol.DecodeHeader(c.Fields, h); err != nil {
		return err
	}
	for _, name := range fields {
		if _, ok := c.Fields.Get(name); !ok {
			return protocol.Errorf(protocol.RespSystemError, "the custom field <%s> is null", name)
		}
	}
	return nil
}

func success() *remoting.Response { return remoting.Respond(protocol.RespSuccess, nil) }

// routeCacheBytesMax bounds the answers that are kept; when it is reached all are dropped.
const routeCacheBytesMax = 64 << 20

// routeCache keeps marshalled answers.
type routeCache struct {
	mu    sync.Mutex // guards what follows; taken under NameServer.mu
	all   map[routeKey]cachedRoute
	bytes int
}

type routeKey struct {
	topic string
	asker netip.Addr
}

// cachedRoute holds while the table's version and what the local broker says of the topic are the same.
type cachedRoute struct {
	version uint64
	local   protocol.QueueData
	body    []byte // shared by responses, never changed
}

func (c *routeCache) get(k routeKey, version uint64, local protocol.QueueData) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.all[k]; ok && r.version == version && r.local == local {
		return r.body
	}
	return nil
}

func (c *routeCache) put(k routeKey, r cachedRoute) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += len(r.body) - len(c.all[k].body)
	if c.all == nil || c.bytes > routeCacheBytesMax {
		c.all, c.bytes = map[routeKey]cachedRoute{}, len(r.body)
	}
	c.all[k] = r
}
