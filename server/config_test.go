package server

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	c, ignored, err := Load(Sources{})
	if err != nil || len(ignored) != 0 {
		t.Fatal(ignored, err)
	}
	if diff := cmp.Diff(DefaultConfig(), c, cmp.AllowUnexported()); diff != "" {
		t.Error(diff)
	}
}

// Every source overrides those before it: broker.conf, the file, the environment, the flags.
func TestLaterSourcesWin(t *testing.T) {
	s := Sources{
		Properties: write(t, "broker.conf", "# comment\nbrokerName = p\nbrokerClusterName=p\nregionId=p\nlistenPort=1001\nbrokerIP1=10.0.0.1\nstorePathRootDir=/p\n"),
		File:       write(t, "apogee.yaml", "brokerClusterName: y\nregionId: y\nlistenPort: 1002\nflushDiskType: ASYNC_FLUSH\nmaxMessageSize: 1MiB\n"),
		Env:        []string{"APOGEE_REGION_ID=e", "APOGEE_BROKER_PORT=1003", "APOGEE_POLL_WAIT_MAX=1500", "PATH=/bin", "APOGEE_NOTHING=x"},
		Flags:      map[string]string{"broker-port": "1004", "tls-mode": "enforcing"},
	}
	c, ignored, err := Load(s)
	if err != nil || len(ignored) != 0 {
		t.Fatal(ignored, err)
	}
	if c.BrokerName != "p" || c.Cluster != "y" || c.Region != "e" || c.BrokerPort != 1004 {
		t.Errorf("brokerName=%s brokerClusterName=%s regionId=%s listenPort=%d, want p y e 1004", c.BrokerName, c.Cluster, c.Region, c.BrokerPort)
	}
	if c.Advertise != "10.0.0.1" || c.Dir != "/p" {
		t.Errorf("brokerIP1 is %q, storePathRootDir %q", c.Advertise, c.Dir)
	}
	if !c.AsyncFlush || c.MessageBytesMax != 1<<20 || c.PollWaitMax != 1500*time.Millisecond {
		t.Errorf("%+v", c)
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	_, _, err := Load(Sources{
		File: write(t, "apogee.yaml", "brokreName: x\nlistenPort: many\nregisterNameServerPeriod: soon\n"),
		Env:  []string{"APOGEE_MEMORY_MAX=lots"},
		Flags: map[string]string{
			"cluster": "a b", "admin-port": "70000", "roles": "broker,waiter", "flush-disk-type": "MAYBE", "tls-cert-path": "x.pem",
			"default-topic-queue-nums": "0", "log-level": "loud", "namesrv-port": "10911", "drain-timeout": "0", "max-message-size": "10GiB",
		},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"brokreName: there is no such key; did you mean brokerName?", "listenPort=many: want a whole number", "registerNameServerPeriod=soon: want a duration",
		"memoryMax=lots: want a size", `brokerClusterName=a b:`, "adminPort=70000: a port is 0 (any free one) to 65535", "roles=waiter: unknown role",
		"flushDiskType=MAYBE: want SYNC_FLUSH or ASYNC_FLUSH", "tlsCertPath=x.pem: certificate and key", "defaultTopicQueueNums=0: want 1 to 65536",
		"logLevel=loud: want debug, info, warn or error", "drainTimeout=0s: want more than 0", "maxMessageSize=10737418240: want 1 to",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not told %q", want)
		}
	}
	t.Log(err)
}

func TestPortsMayNotCollide(t *testing.T) {
	for _, flags := range []map[string]string{
		{"namesrv-port": "10911"}, {"namesrv-port": "10909"}, {"admin-port": "10911"}, {"broker-port": "2"},
	} {
		if _, _, err := Load(Sources{Flags: flags}); err == nil {
			t.Errorf("%v is accepted", flags)
		}
	}
	if _, _, err := Load(Sources{Flags: map[string]string{"namesrv-port": "0", "broker-port": "0", "admin-port": "0"}}); err != nil {
		t.Error(err)
	}
}

// A broker.conf of RocketMQ is taken as it is: what means nothing here is named and passed over.
func TestBrokerConfIsTakenAsItIs(t *testing.T) {
	c, ignored, err := Load(Sources{Properties: write(t, "broker.conf", strings.Join([]string{
		"brokerClusterName=DefaultCluster", "brokerName=broker-b", "brokerId=0", "deleteWhen=04", "fileReservedTime=48", "brokerRole=ASYNC_MASTER",
		"flushDiskType=ASYNC_FLUSH", "! another comment", "", "listenPort=11911",
	}, "\r\n"))})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ignored)
	if diff := cmp.Diff([]string{"brokerRole", "deleteWhen"}, ignored); diff != "" {
		t.Errorf("passed over: %s", diff)
	}
	if c.BrokerName != "broker-b" || !c.AsyncFlush || c.BrokerPort != 11911 || c.Retention.Age != 48*time.Hour {
		t.Errorf("%+v", c)
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	_, _, err := Load(Sources{Properties: "no/broker.conf", File: "no/apogee.yaml"})
	for _, want := range []string{"no/broker.conf", "no/apogee.yaml"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestNearestName(t *testing.T) {
	for key, want := range map[string]string{
		"brokername": "brokerName", "listen_port": "listenPort", "maxMesageSize": "maxMessageSize", "completelyDifferentThing": "",
	} {
		got := nearest(key, Options())
		if want == "" && got != "" || want != "" && got != "; did you mean "+want+"?" {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func TestEveryOptionHasAFlagAndAVariableOfItsOwn(t *testing.T) {
	seen := map[string]string{}
	for _, o := range Options() {
		for _, name := range []string{o.Key, "--" + o.Flag, o.env()} {
			if other, taken := seen[name]; taken {
				t.Errorf("%s is %s and %s", name, other, o.Key)
			}
			seen[name] = o.Key
		}
		if o.Usage == "" {
			t.Errorf("%s has no usage", o.Key)
		}
	}
}

func TestValues(t *testing.T) {
	byFlag := map[string]Option{}
	for _, o := range Options() {
		byFlag[o.Flag] = o
	}
	for _, v := range []struct {
		flag, value string
		read        func(*Config) any
		want        any
	}{
		{"memory-max", "512MiB", func(c *Config) any { return c.MemoryBytesMax }, int64(512 << 20)},
		{"memory-max", "1 g", func(c *Config) any { return c.MemoryBytesMax }, int64(1 << 30)},
		{"memory-max", "-1", nil, nil},
		{"memory-max", "9999999999G", nil, nil},
		{"memory-max", "", nil, nil},
		{"idle-timeout", "250", func(c *Config) any { return c.IdleTimeout }, 250 * time.Millisecond},
		{"idle-timeout", "2m", func(c *Config) any { return c.IdleTimeout }, 2 * time.Minute},
		{"trace-topic-enable", "yes", nil, nil},
		{"trace-topic-enable", "true", func(c *Config) any { return c.TraceTopic }, true},
		{"default-topic-queue-nums", "2147483648", nil, nil},
		{"proxy-protocol-from", "10.0.0.0/8, ::1", func(c *Config) any { return len(c.ProxyProtocolFrom) }, 2},
		{"proxy-protocol-from", "somewhere", nil, nil},
	} {
		c := DefaultConfig()
		err := byFlag[v.flag].set(&c, v.value)
		switch {
		case v.read == nil:
			if err == nil {
				t.Errorf("--%s %q is accepted", v.flag, v.value)
			}
		case err != nil || v.read(&c) != v.want:
			t.Errorf("--%s %q: %v, %v; want %v", v.flag, v.value, v.read(&c), err, v.want)
		}
	}
}
