package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// ports of one server. The fast port of the broker is two below the broker's and needs no flag.
type ports struct {
	namesrv, broker, ha, admin, grpc, proxy, console int
}

const (
	portsPerServer = 9
	// Below what systems hand out for outgoing connections, so that a client cannot take the
	// port of a broker that is down for a moment.
	portMin, portMax = 12_000, 32_000
	portTriesMax     = 200
)

// freePorts finds a block of ports on which nothing listens.
func freePorts(host string) (ports, error) {
	for range portTriesMax {
		base := portMin + rand.IntN(portMax-portMin-portsPerServer)
		if allFree(host, base) {
			return ports{
				namesrv: base,
				broker:  base + 3, // base+1 is the fast port
				ha:      base + 4,
				admin:   base + 5,
				grpc:    base + 6,
				proxy:   base + 7,
				console: base + 8,
			}, nil
		}
	}
	return ports{}, fmt.Errorf("no %d free ports in a row on %s after %d tries", portsPerServer, host, portTriesMax)
}

func allFree(host string, base int) bool {
	for port := base; port < base+portsPerServer; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func (p ports) flags() []string {
	var flags []string
	for _, f := range []struct {
		name string
		port int
	}{
		{"namesrv", p.namesrv},
		{"broker", p.broker},
		{"ha", p.ha},
		{"admin", p.admin},
		{"grpc", p.grpc},
		{"proxy", p.proxy},
		{"console", p.console},
	} {
		flags = append(flags, "--"+f.name+"-port", strconv.Itoa(f.port))
	}
	return flags
}
