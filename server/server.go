package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/admin"
	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/namesrv"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Server is a node: the roles of one process on one directory.
type Server struct {
	c   Config
	log *slog.Logger

	store    *store.Store
	recovery store.Recovery
	broker   *broker.Broker
	namesrv  *namesrv.NameServer
	client   *remoting.Client
	register *registrar
	syncs    *syncTimes

	namesrvServer, brokerServer *remoting.Server
	adminServer                 *admin.Server
	adminListener               net.Listener

	ready    atomic.Bool
	started  time.Time
	took     time.Duration
	stop     chan struct{}
	wait     sync.WaitGroup
	closing  sync.Once
	closeErr error
}

// New checks the configuration. The node does nothing before Start.
func New(c Config) (*Server, error) {
	if c.FS != nil { // segments are made whole, in memory
		c.SegmentBytes = min(c.SegmentBytes, leastSegment(c.MessageBytesMax))
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	log := c.Logger
	if log == nil {
		level, err := logLevel(c.LogLevel)
		if err != nil {
			return nil, err
		}
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	return &Server{c: c, stop: make(chan struct{}), log: log}, nil
}

// Start opens the directory, recovers it and begins to serve; the node is ready when it returns. After an error nothing is left running.
func (s *Server) Start(ctx context.Context) error {
	s.started = time.Now()
	err := s.start(ctx)
	if err != nil {
		return errors.Join(err, s.Close(ctx))
	}
	s.took = time.Since(s.started)
	s.ready.Store(true)
	return nil
}

func (s *Server) start(ctx context.Context) error {
	s.client = remoting.NewClient(remoting.ClientConfig{Logger: s.log})
	if err := s.bind(); err != nil {
		return err
	}
	if err := makeDirectory(s.c.files(), s.c.Dir); err != nil {
		return err
	}
	if s.c.has(RoleBroker) {
		if err := s.openBroker(); err != nil {
			return err
		}
	}
	if s.c.has(RoleNamesrv) {
		if err := s.openNamesrv(); err != nil {
			return err
		}
	}
	if err := s.serve(); err != nil {
		return err
	}
	if s.broker != nil && s.c.NamesrvAddr != "" {
		s.register = newRegistrar(s)
		s.register.start(ctx)
	}
	return nil
}

// bind takes the admin port first: a second process on the same ports fails before it touches the directory.
func (s *Server) bind() (err error) {
	if s.adminListener, err = net.Listen("tcp", s.hostPort(s.c.AdminPort)); err != nil {
		return fmt.Errorf("%w; choose another port with --admin-port", err)
	}
	return nil
}

func (s *Server) hostPort(port int) string {
	return net.JoinHostPort(s.c.Listen, strconv.Itoa(port))
}

// files is where everything lies.
func (c *Config) files() vfs.FS {
	if c.FS != nil {
		return c.FS
	}
	return vfs.Default
}

// storeDir is where the log is. A store directory of RocketMQ (storePathRootDir) is used where it lies.
func (c *Config) storeDir() string {
	fs := c.files()
	own := fs.PathJoin(c.Dir, "store")
	if _, err := fs.Stat(own); err == nil {
		return own
	}
	for _, sign := range []string{"commitlog", "config"} {
		if _, err := fs.Stat(fs.PathJoin(c.Dir, sign)); err == nil {
			return c.Dir
		}
	}
	return own
}

func (c *Config) storeConfig(log *slog.Logger) store.Config {
	_, logMemory := c.budget()
	config := store.Config{
		FS: c.FS, Dir: c.storeDir(), SegmentBytes: c.SegmentBytes, MemoryBytesMax: logMemory,
		UnsyncedBytesMax: c.UnsyncedBytesMax, AsyncFlush: c.AsyncFlush, FlushInterval: c.FlushInterval,
		ViewLagBytesMax: c.ViewLagBytesMax, AcceptDamage: c.AcceptDamage, Retention: c.Retention, Now: time.Now, Logger: log,
		MultiDispatch: c.Light.Enable && c.Light.MultiDispatch,
		DueTime:       c.DelayLevels.DueTime, Retired: broker.Retired, Pending: broker.Pending, Import: broker.ImportRocketMQ(c.Light.Enable),
	}
	if c.FS != nil {
		config.Files = commitlog.NewVFSFiles(c.FS)
	}
	return config
}

// Leave hands the store directory of a stopped node back to RocketMQ, and returns what is lost by that.
func Leave(c Config, log *slog.Logger) (dir string, lost []string, err error) {
	config := c.storeConfig(log)
	if _, err := c.files().Stat(c.files().PathJoin(config.Dir, "state")); err != nil {
		return config.Dir, nil, fmt.Errorf("%s is not a directory of Apogee; name one with --dir: %w", config.Dir, err)
	}
	s, _, err := store.Open(config)
	if err != nil {
		return config.Dir, nil, err
	}
	files, lost, err := broker.ExportRocketMQ(s)
	if err != nil {
		return config.Dir, nil, errors.Join(err, s.Close())
	}
	return config.Dir, lost, s.Leave(files)
}

func (c *Config) transactions() broker.TransactionOptions {
	o := c.Transactions
	o.Reserved = c.Retention.Age
	return o
}

func (s *Server) openBroker() (err error) {
	config := s.c.storeConfig(s.log)
	s.syncs = newSyncTimes(!s.c.AsyncFlush && s.c.FS == nil, s.log)
	config.Synced = s.syncs.note
	if s.store, s.recovery, err = store.Open(config); err != nil {
		return fmt.Errorf("cannot open the store: %w", err)
	}
	advertise := netip.Addr{}
	if s.c.Advertise != "" {
		if advertise, err = resolve(s.c.Advertise); err != nil {
			return err
		}
	}
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return err
	}
	s.broker, err = broker.New(broker.Config{
		Properties: s.c.brokerProperties(), Host: s.brokerHost(),
		Cluster: s.c.Cluster, Name: s.c.BrokerName, ID: s.c.BrokerID, Advertise: advertise, Region: s.c.Region,
		AutoCreateTopic: s.c.AutoCreateTopic, AutoCreateGroup: s.c.AutoCreateGroup, DefaultTopicQueues: s.c.DefaultTopicQueues,
		QueuesMax: s.c.QueuesMax, GroupsMax: s.c.GroupsMax,
		TraceTopic: s.c.TraceTopic, PropertyFilter: s.c.PropertyFilter, FilterRetry: s.c.FilterRetry, StoreReplies: s.c.StoreReplies,
		Permission: s.c.BrokerPermission, MessageBytesMax: int(s.c.MessageBytesMax),
		TransferBytes: int(s.c.TransferBytesMax), TransferCount: int(s.c.TransferCountMax),
		HotBytes: machineMemory() / 100 * s.c.HotPercent, PollWaitMax: s.c.PollWaitMax, DelayLevels: s.c.DelayLevels,
		Light: s.c.Light, NoTimers: !s.c.Timers, NoRecall: !s.c.Recall,
		TimerMaxDelaySec: s.c.TimerMaxDelaySec, TimerPrecisionMS: s.c.TimerPrecisionMS, TimerLiveBytesMax: s.c.TimerLiveBytesMax,
		Transactions: s.c.transactions(), CompactEvery: s.c.CompactEvery, Cold: s.c.Cold, Seed: int64(binary.BigEndian.Uint64(seed[:]) >> 1), Now: time.Now, Logger: s.log,
	}, s.store)
	if err != nil {
		return fmt.Errorf("cannot load the broker's state: %w", err)
	}
	return s.listenBroker()
}

// freePairTries is how often another port is tried when the broker may take any.
const freePairTries = 50

// listenBroker binds the broker's port and the fast port two below it.
func (s *Server) listenBroker() error {
	port := s.c.BrokerPort
	for try := 0; ; try++ {
		if s.c.BrokerPort == 0 {
			l, err := net.Listen("tcp", s.hostPort(0))
			if err != nil {
				return fmt.Errorf("cannot listen: %w", err)
			}
			port = l.Addr().(*net.TCPAddr).Port
			_ = l.Close()
		}
		config := s.remotingConfig(s.broker.Routes(), s.broker.NewSink, port, port-2)
		config.Drain = s.broker.AnswerAll
		server, err := remoting.NewServer(config)
		if err == nil {
			s.brokerServer = server
			s.broker.SetPort(port)
			return nil
		}
		if s.c.BrokerPort != 0 || try == freePairTries {
			return fmt.Errorf("%w; the broker needs %d and its fast port %d, choose others with --broker-port", err, port, port-2)
		}
	}
}

func (s *Server) remotingConfig(routes []remoting.Route, sink func(*remoting.Conn) remoting.Sink, ports ...int) remoting.ServerConfig {
	c := remoting.ServerConfig{
		Routes: routes, NewSink: sink,
		FrameBytesMax: int(s.c.FrameBytesMax), IdleTimeout: s.c.IdleTimeout, ConnectionsMax: int(s.c.ConnectionsMax),
		OutBytesMax: int(s.c.OutBytesMax), RequestBytesMax: int(s.c.RequestBytesMax), MemoryBytesMax: int(s.c.connectionMemory()), TLSMode: s.c.TLSMode, Logger: s.log, Now: time.Now,
		Authorize: allowAll, Admit: admitAll,
	}
	for _, p := range ports {
		c.Listen = append(c.Listen, s.hostPort(p))
	}
	if s.c.TLSCert != "" {
		c.TLS = s.certificate
	}
	if len(s.c.ProxyProtocolFrom) > 0 {
		c.ProxyAllowed = func(peer netip.Addr) bool {
			for _, p := range s.c.ProxyProtocolFrom {
				if p.Contains(peer.Unmap()) {
					return true
				}
			}
			return false
		}
	}
	return c
}

// allowAll is the authorisation of every request until access control comes; admitAll its admission until there are quotas.
func allowAll(*remoting.Request, *remoting.Route) error      { return nil }
func admitAll(*remoting.Request, *remoting.Route, int) error { return nil }

// certificate reads the files at each handshake, so that a renewed certificate is used at once.
func (s *Server) certificate() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(s.c.TLSCert, s.c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("tlsCertPath=%s, tlsKeyPath=%s: %w", s.c.TLSCert, s.c.TLSKey, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

func (s *Server) openNamesrv() (err error) {
	dir := s.c.files().PathJoin(s.c.Dir, "namesrv")
	if err := s.c.files().MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s.namesrv, err = namesrv.New(namesrv.Options{
		Config: s.c.Namesrv, FS: s.c.files(), Dir: dir, Started: s.started, Log: s.log,
		Push: func(addr string, c *protocol.Command) {
			if err := s.client.OneWay(addr, c); err != nil {
				s.log.Warn("cannot push to a broker", "addr", addr, "error", err)
			}
		},
	})
	if err != nil {
		return err
	}
	if s.broker != nil {
		err = s.namesrv.RegisterLocal(namesrv.Local{
			Cluster: s.c.Cluster, Name: s.c.BrokerName, ID: s.c.BrokerID, Port: uint16(s.broker.Port()),
			AdvertiseHost: s.c.Advertise, Topics: s.broker,
		})
		if err != nil {
			return err
		}
	}
	if s.namesrvServer, err = remoting.NewServer(s.remotingConfig(s.namesrv.Routes(), nil, s.c.NamesrvPort)); err != nil {
		return fmt.Errorf("%w; choose another port with --namesrv-port", err)
	}
	return nil
}

// tickInterval is how often roles look at the clock.
const tickInterval = time.Second

func (s *Server) serve() error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.broker != nil {
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"role": RoleBroker}, registry).Register(s.brokerServer.Collector()); err != nil {
			return err
		}
		registry.MustRegister(brokerCollector{s.broker}, s.syncs.all)
		s.broker.Start()
		s.brokerServer.Start()
	}
	if s.namesrv != nil {
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"role": RoleNamesrv}, registry).Register(s.namesrvServer.Collector()); err != nil {
			return err
		}
		s.namesrvServer.Start()
		s.wait.Add(1)
		go s.ticker()
	}
	s.adminServer = admin.New(registry, s.health, s.readiness, s.c.Profiles)
	s.wait.Add(1)
	go func() {
		defer s.wait.Done()
		if err := s.adminServer.Serve(s.adminListener); err != nil {
			s.log.Error("the admin port failed", "error", err)
		}
	}()
	return nil
}

func (s *Server) ticker() {
	defer s.wait.Done()
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			s.namesrv.Tick(now)
		case <-s.stop:
			return
		}
	}
}

func (s *Server) health() error {
	if s.store != nil {
		return s.store.Writable()
	}
	return nil
}

func (s *Server) readiness() error {
	if !s.ready.Load() {
		return errors.New("starting or stopping")
	}
	return s.health()
}

// Close drains and stops the node: sends are refused, what is in flight is answered, offsets are recorded, log and view are flushed. It
// waits until the context ends or drainTimeout is over, then cuts connections. It may be called more than once.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closeErr = s.close(ctx) })
	return s.closeErr
}

func (s *Server) close(ctx context.Context) error {
	s.ready.Store(false)
	ctx, cancel := context.WithTimeout(ctx, s.c.DrainTimeout)
	defer cancel()
	var errs []error
	if s.broker != nil {
		s.broker.Drain()
	}
	if s.register != nil {
		s.register.stop(ctx)
	}
	close(s.stop)
	for _, server := range []*remoting.Server{s.brokerServer, s.namesrvServer} {
		if server != nil {
			errs = append(errs, server.Shutdown(ctx))
		}
	}
	if s.adminServer != nil {
		errs = append(errs, s.adminServer.Close(ctx))
	} else if s.adminListener != nil {
		errs = append(errs, s.adminListener.Close())
	}
	s.wait.Wait()
	if s.broker != nil {
		s.broker.Stop()
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.client != nil {
		s.client.Close()
	}
	return errors.Join(errs...)
}
