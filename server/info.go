package server

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/remoting"
)

// NamesrvAddr, BrokerAddr and AdminAddr say where a client in the same machine reaches the node; empty where the role does not run.
func (s *Server) NamesrvAddr() string { return serverAddr(s.namesrvServer) }
func (s *Server) BrokerAddr() string  { return serverAddr(s.brokerServer) }
func (s *Server) AdminAddr() string {
	if s.adminListener == nil {
		return ""
	}
	return dialable(s.adminListener.Addr().(*net.TCPAddr).AddrPort())
}

func serverAddr(s *remoting.Server) string {
	if s == nil {
		return ""
	}
	return dialable(s.Addrs()[0])
}

// dialable replaces "every address" by the loopback.
func dialable(a netip.AddrPort) string {
	host := a.Addr().Unmap()
	if host.IsUnspecified() {
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(host, a.Port()).String()
}

// Config returns the node's configuration, with the ports that it took where it was free to choose. A node in memory that is closed is
// started again, with all it stored and at the same addresses, by New of it.
func (s *Server) Config() Config {
	c := s.c
	if s.namesrvServer != nil {
		c.NamesrvPort = int(s.namesrvServer.Addrs()[0].Port())
	}
	if s.broker != nil {
		c.BrokerPort = s.broker.Port()
	}
	if s.adminListener != nil {
		c.AdminPort = s.adminListener.Addr().(*net.TCPAddr).Port
	}
	return c
}

// Info says where a node is and what it is, for programs.
type Info struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	Namesrv string `json:"namesrv,omitempty"` // host:port, as are the next two
	Broker  string `json:"broker,omitempty"`
	Admin   string `json:"admin"`
	Cluster string `json:"cluster"`
	Name    string `json:"broker_name"`
	TookMS  int64  `json:"took_ms"` // the start
}

// Info returns what WriteInfo tells an operator. The node has been started.
func (s *Server) Info(version string) Info {
	return Info{
		Version: version, PID: os.Getpid(), Namesrv: s.NamesrvAddr(), Broker: s.BrokerAddr(), Admin: s.AdminAddr(),
		Cluster: s.c.Cluster, Name: s.c.BrokerName, TookMS: s.took.Milliseconds(),
	}
}

// WriteInfo tells an operator what runs where, what clients will be told, and what an acknowledgement means.
func (s *Server) WriteInfo(w io.Writer, version string) {
	fmt.Fprintf(w, "Apogee %s is ready after %d ms.\n\n", version, s.took.Milliseconds())
	where := "on every address of this machine"
	if s.c.Listen != "" {
		where = "on " + s.c.Listen
	}
	if s.namesrv != nil {
		fmt.Fprintf(w, "  name server  %s, %s\n", s.NamesrvAddr(), where)
	}
	if s.broker != nil {
		fmt.Fprintf(w, "  broker       %s (fast port %d), %s of cluster %s\n", s.BrokerAddr(), s.broker.Port()-2, s.c.BrokerName, s.c.Cluster)
	}
	fmt.Fprintf(w, "  admin        http://%s/metrics, /healthz, /readyz, /debug/pprof\n", s.AdminAddr())
	fmt.Fprintf(w, "  data         %s\n\n", s.c.Dir)
	s.writeTold(w)
	if s.broker != nil {
		s.writeStore(w)
	}
	total, log := s.c.budget()
	fmt.Fprintf(w, "Limits: memory %s, of which %s for the log (--memory-max); %s open files.\n", bytesText(total), bytesText(log), openFiles())
}

func (s *Server) writeTold(w io.Writer) {
	switch {
	case s.c.Advertise != "":
		fmt.Fprintf(w, "Clients are told the address %s (--advertise).\n", s.c.Advertise)
	case inContainer():
		fmt.Fprintf(w, "Clients are told the address that they reached this node by. This looks like a container: if clients outside it cannot\n"+
			"reach that address, start with --advertise HOST (localhost for clients on the same machine).\n")
	default:
		fmt.Fprintf(w, "Clients are told the address that they reached this node by. Behind NAT or a load balancer, set --advertise HOST.\n")
	}
}

func (s *Server) writeStore(w io.Writer) {
	if s.c.FS != nil {
		fmt.Fprintf(w, "Acknowledged means: in memory; nothing survives the process.\n")
	} else if s.c.AsyncFlush {
		fmt.Fprintf(w, "Acknowledged means: written; survives kill -9; a power cut can lose the last %d ms (--flush-disk-type SYNC_FLUSH loses nothing).\n", s.c.FlushInterval.Milliseconds())
	} else {
		fmt.Fprintf(w, "Acknowledged means: on disk; survives a power cut.\n")
	}
	r := s.recovery
	if r.Replayed > 0 || r.Cut > 0 || r.Rebuilt {
		fmt.Fprintf(w, "Recovered: %d records replayed from log position %d to %d", r.Replayed, r.From, r.End)
		if r.Cut > 0 {
			fmt.Fprintf(w, "; behind its end %d bytes were zeroed, torn or left from before the segment was used again: nothing that was acknowledged", r.Cut)
		}
		if r.Rebuilt {
			fmt.Fprintf(w, "; the view was rebuilt")
		}
		fmt.Fprintln(w, ".")
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(w, "DAMAGE: no valid record from log position %d to %d (%v).\n", g.From, g.To, g.Reason)
	}
	if len(r.Gaps) > 0 && !s.c.AcceptDamage {
		fmt.Fprintf(w, "The broker is read-only: what is intact can be consumed. Accept the loss with --accept-damage true.\n")
	}
}

func bytesText(n int64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if n < 10<<10 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		n >>= 10
	}
	return strings.TrimSpace(strconv.FormatInt(n, 10) + " GiB")
}

// Took is how long the start took.
func (s *Server) Took() time.Duration { return s.took }
