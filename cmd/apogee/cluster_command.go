package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newClusterCommand() *cobra.Command {
	return noun("cluster", "Brokers and name servers: state, settings, write permission, cleaning", "",
		newClusterListCommand(), newClusterStatusCommand(), newClusterProducersCommand(), newClusterConfigCommand(), newClusterKVCommand(),
		newClusterWriteCommand("wipe-write", "Take the write permission of a broker's topics: producers go elsewhere, consumers drain it", protocol.ReqWipeWritePermOfBroker),
		newClusterWriteCommand("add-write", "Give a broker's topics their write permission back", protocol.ReqAddWritePermOfBroker),
		newClusterCleanCommand())
}

// listedBroker is a row of cluster list.
type listedBroker struct {
	Cluster    string  `json:"cluster"`
	Broker     string  `json:"broker"`
	ID         int64   `json:"broker_id"`
	Address    string  `json:"address"`
	Version    string  `json:"version"`
	In         float64 `json:"in_per_second"`
	Out        float64 `json:"out_per_second"`
	InToday    int64   `json:"in_today"`
	OutToday   int64   `json:"out_today"`
	DiskUsed   float64 `json:"disk_used_ratio"`
	OldestHour float64 `json:"oldest_message_hours"`
	Active     bool    `json:"active"`
	Error      string  `json:"error,omitempty"`
}

func newClusterListCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List brokers with version, rates, disk and the age of the oldest message",
		Args:  takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				list, err := cl.listBrokers(ctx)
				if err != nil {
					return err
				}
				return f.out.print(c, list, func(w io.Writer) error { return writeBrokers(w, list) })
			})
		},
	}
	f.add(c)
	return c
}

func writeBrokers(w io.Writer, list []listedBroker) error {
	t := newTable("CLUSTER", "BROKER", "ID", "ADDRESS", "VERSION", "IN/S", "OUT/S", "IN TODAY", "OUT TODAY", "DISK", "OLDEST", "ACTIVE")
	for _, b := range list {
		if b.Error != "" {
			t.add(b.Cluster, b.Broker, b.ID, b.Address, b.Error)
			continue
		}
		oldest := ""
		if b.OldestHour >= 0 {
			oldest = behindText(b.OldestHour * 3600)
		}
		t.add(b.Cluster, b.Broker, b.ID, b.Address, b.Version, rate(b.In), rate(b.Out), b.InToday, b.OutToday, fmt.Sprintf("%.0f%%", 100*b.DiskUsed),
			oldest, b.Active)
	}
	return t.write(w)
}

// listBrokers asks every broker, replicas too. One that cannot be reached is listed with the reason.
func (c *cluster) listBrokers(ctx context.Context) ([]listedBroker, error) {
	info, err := c.info(ctx)
	if err != nil {
		return nil, err
	}
	list := []listedBroker{}
	for name, b := range info.Brokers {
		for id, addr := range b.Addrs {
			list = append(list, listedBroker{Cluster: b.Cluster, Broker: name, ID: id, Address: addr, OldestHour: -1})
		}
	}
	slices.SortFunc(list, func(a, b listedBroker) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.ID, b.ID))
	})
	err = each(len(list), func(i int) error {
		t, err := fetch[protocol.KVTable](ctx, c, list[i].Address, protocol.ReqGetBrokerRuntimeInfo, nil)
		if err != nil {
			list[i].Error = firstLine(err)
			return nil
		}
		list[i].fill(t.Table)
		return nil
	})
	return list, err
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// fill reads a broker's runtime figures.
func (b *listedBroker) fill(info map[string]string) {
	float := func(key string) float64 {
		first, _, _ := strings.Cut(info[key], " ") // rates over 10 s, 1 minute and 10 minutes
		f, _ := strconv.ParseFloat(first, 64)
		return f
	}
	b.Version = strings.ReplaceAll(strings.TrimPrefix(info["brokerVersionDesc"], "V"), "_", ".")
	b.In, b.Out = float("putTps"), float("getTransferredTps")
	if b.Out == 0 {
		b.Out = float("getTransferedTps") // 4.x
	}
	b.InToday = int64(float("msgPutTotalTodayNow") - float("msgPutTotalTodayMorning"))
	b.OutToday = int64(float("msgGetTotalTodayNow") - float("msgGetTotalTodayMorning"))
	b.DiskUsed = float("commitLogDiskRatio")
	if oldest := int64(float("earliestMessageTimeStamp")); oldest > 0 {
		b.OldestHour = time.Since(time.UnixMilli(oldest)).Hours()
	}
	b.Active = info["brokerActive"] == "true"
}

func newClusterStatusCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	c := &cobra.Command{
		Use:   "status",
		Short: "Show all runtime figures of the brokers",
		Args:  takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				return f.eachBroker(ctx, c, cl, s, func(b broker) (map[string]string, error) {
					t, err := fetch[protocol.KVTable](ctx, cl, b.addr, protocol.ReqGetBrokerRuntimeInfo, nil)
					if err != nil {
						return nil, err
					}
					return t.Table, nil
				})
			})
		},
	}
	f.add(c)
	s.add(c)
	return c
}

// eachBroker prints what each broker of the scope says, name by name.
func (f *clusterFlags) eachBroker(ctx context.Context, c *cobra.Command, cl *cluster, s scope, ask func(broker) (map[string]string, error)) error {
	brokers, err := cl.brokers(ctx, s)
	if err != nil {
		return err
	}
	all, t := map[string]map[string]string{}, newTable("BROKER", "NAME", "VALUE")
	for _, b := range brokers {
		values, err := ask(b)
		if err != nil {
			return err
		}
		all[b.name] = values
		for _, k := range slices.Sorted(maps.Keys(values)) {
			t.add(b.name, k, values[k])
		}
	}
	return f.out.print(c, all, t.write)
}

// producer is one that is connected.
type producer struct {
	Group    string    `json:"group"`
	Broker   string    `json:"broker"`
	Client   string    `json:"client"`
	Address  string    `json:"address"`
	Language string    `json:"language"`
	Version  string    `json:"version"`
	Seen     time.Time `json:"last_heartbeat"`
}

func newClusterProducersCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	var group string
	c := &cobra.Command{
		Use:   "producers",
		Short: "List the producers that are connected",
		Args:  takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, err := cl.brokers(ctx, s)
				if err != nil {
					return err
				}
				list, t := []producer{}, newTable("GROUP", "BROKER", "CLIENT", "ADDRESS", "LANGUAGE", "VERSION", "LAST HEARTBEAT")
				for _, b := range brokers {
					table, err := fetch[protocol.ProducerTable](ctx, cl, b.addr, protocol.ReqGetAllProducerInfo, nil)
					if err != nil {
						return err
					}
					for _, g := range slices.Sorted(maps.Keys(table.Data)) {
						if group != "" && g != group {
							continue
						}
						for _, p := range table.Data[g] {
							one := producer{g, b.name, p.ClientID, strings.TrimPrefix(p.RemoteIP, "/"), p.Language, clientVersion(p.Version), time.UnixMilli(p.LastUpdate)}
							list = append(list, one)
							t.add(g, b.name, one.Client, one.Address, one.Language, one.Version, one.Seen.Format(timeLayout))
						}
					}
				}
				return f.out.print(c, list, t.write)
			})
		},
	}
	f.add(c)
	s.add(c)
	c.Flags().StringVar(&group, "group", "", "producer group")
	return c
}

func newClusterConfigCommand() *cobra.Command {
	return noun("config", "Settings of brokers and name servers", "", newConfigGetCommand(), newConfigSetCommand())
}

// configFlags choose whose settings.
type configFlags struct {
	clusterFlags
	scope
	nameServer bool
}

func (f *configFlags) add(c *cobra.Command) {
	f.clusterFlags.add(c)
	f.scope.add(c)
	c.Flags().BoolVar(&f.nameServer, "name-server", false, "the name servers' settings, not the brokers'")
}

func newConfigGetCommand() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:     "get [NAME...]",
		Short:   "Show settings, all or some",
		Example: "  apogee cluster config get maxMessageSize autoCreateTopicEnable\n  apogee cluster config get --name-server",
		RunE: func(c *cobra.Command, names []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error {
				if f.nameServer {
					answer, err := cl.askNameServer(ctx, request{code: protocol.ReqGetNamesrvConfig})
					if err != nil {
						return err
					}
					values, err := pick(answer.Body, names, "the name server")
					if err != nil {
						return err
					}
					return f.out.print(c, values, func(w io.Writer) error { return writeValues(w, values) })
				}
				return f.eachBroker(ctx, c, cl, f.scope, func(b broker) (map[string]string, error) {
					answer, err := cl.ask(ctx, b.addr, request{code: protocol.ReqGetBrokerConfig}, nil)
					if err != nil {
						return nil, err
					}
					return pick(answer.Body, names, "broker "+b.name)
				})
			})
		},
	}
	f.add(c)
	c.ValidArgsFunction = completions(settingNames)
	return c
}

// pick reads a properties text, and leaves what was asked for.
func pick(text []byte, names []string, whose string) (map[string]string, error) {
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && line[0] != '#' {
			all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	some := map[string]string{}
	for _, name := range names {
		value, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("%s has no setting %q; without a name all are listed", whose, name)
		}
		some[name] = value
	}
	return some, nil
}

func writeValues(w io.Writer, values map[string]string) error {
	t := newTable("NAME", "VALUE")
	for _, k := range slices.Sorted(maps.Keys(values)) {
		t.add(k, values[k])
	}
	return t.write(w)
}

func settingNames(ctx context.Context, cl *cluster) ([]string, error) {
	brokers, err := cl.brokers(ctx, scope{})
	if err != nil {
		return nil, err
	}
	answer, err := cl.ask(ctx, brokers[0].addr, request{code: protocol.ReqGetBrokerConfig}, nil)
	if err != nil {
		return nil, err
	}
	all, err := pick(answer.Body, nil, "")
	return slices.Collect(maps.Keys(all)), err
}

func newConfigSetCommand() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:   "set NAME=VALUE...",
		Short: "Change settings of running brokers, or of name servers",
		Long: "Changes settings of the brokers of --broker, --cluster or the only cluster, at once and for good. What cannot change while a broker\n" +
			"runs is refused.",
		Example: "  apogee cluster config set maxMessageSize=8388608 --broker broker-a",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs NAME=VALUE: %s", c.CommandPath(), c.UseLine())
			}
			for _, a := range args {
				if i := strings.IndexByte(a, '='); i < 1 || strings.ContainsAny(a, "\r\n") {
					return usagef("%q: want NAME=VALUE", a)
				}
			}
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.set(ctx, c, cl, args) })
		},
	}
	f.add(c)
	return c
}

func (f *configFlags) set(ctx context.Context, c *cobra.Command, cl *cluster, changes []string) error {
	body := []byte(strings.Join(changes, "\n") + "\n")
	where := cl.servers
	if f.nameServer {
		if err := cl.askNameServers(ctx, request{code: protocol.ReqUpdateNamesrvConfig, body: body}); err != nil {
			return err
		}
	} else {
		brokers, err := cl.writable(ctx, f.scope)
		if err != nil {
			return err
		}
		where = namesOf(brokers)
		for _, b := range brokers {
			if _, err := cl.ask(ctx, b.addr, request{code: protocol.ReqUpdateBrokerConfig, body: body}, nil); err != nil {
				return fmt.Errorf("broker %q: %w", b.name, err)
			}
		}
	}
	return f.out.say(c, map[string][]string{"set": changes, "on": where}, "set on %s: %s", strings.Join(where, ", "), strings.Join(changes, " "))
}

func newClusterKVCommand() *cobra.Command {
	return noun("kv", "Values that the name servers keep", "Text by namespace and key, on every name server of --namesrv. Namespace "+orderNamespace+
		" holds the queues of ordered topics.",
		newKVListCommand(), newKVSetCommand(), newKVDeleteCommand())
}

func newKVListCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "list NAMESPACE",
		Short: "List the keys and values of a namespace",
		Args:  takes("namespace"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				answer, err := cl.askNameServer(ctx, request{code: protocol.ReqGetKVListByNamespace, header: &protocol.KVHeader{Namespace: args[0]}})
				table := protocol.KVTable{}
				switch {
				case isCode(err, protocol.RespQueryNotFound):
					return fmt.Errorf("namespace %q has no key; `apogee cluster kv set %s KEY VALUE` makes one", args[0], args[0])
				case err != nil:
					return err
				}
				if err := protocol.UnmarshalBody(answer.Body, &table); err != nil {
					return err
				}
				return f.out.print(c, table.Table, func(w io.Writer) error { return writeValues(w, table.Table) })
			})
		},
	}
	f.add(c)
	return c
}

func (c *cluster) putKV(ctx context.Context, namespace, key, value string) error {
	return c.askNameServers(ctx, request{code: protocol.ReqPutKVConfig, header: &protocol.KVHeader{Namespace: namespace, Key: key, Value: value}})
}

func newKVSetCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "set NAMESPACE KEY VALUE",
		Short: "Set a value",
		Args:  takes("namespace", "key", "value"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				if err := cl.putKV(ctx, args[0], args[1], args[2]); err != nil {
					return err
				}
				return f.out.say(c, map[string]string{"namespace": args[0], "key": args[1], "value": args[2]}, "%s %s = %s", args[0], args[1], args[2])
			})
		},
	}
	f.add(c)
	return c
}

func newKVDeleteCommand() *cobra.Command {
	var f clusterFlags
	var yes bool
	c := &cobra.Command{
		Use:   "delete NAMESPACE KEY",
		Short: "Delete a value",
		Args:  takes("namespace", "key"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				h := &protocol.KVHeader{Namespace: args[0], Key: args[1]}
				_, err := cl.askNameServer(ctx, request{code: protocol.ReqGetKVConfig, header: h})
				if isCode(err, protocol.RespQueryNotFound) {
					return fmt.Errorf("namespace %q has no key %q; `apogee cluster kv list %s` shows them", args[0], args[1], args[0])
				}
				if err != nil {
					return err
				}
				if err := confirm(c, yes, fmt.Sprintf("Delete key %s of namespace %s?", args[1], args[0])); err != nil {
					return err
				}
				if err := cl.askNameServers(ctx, request{code: protocol.ReqDeleteKVConfig, header: h}); err != nil {
					return err
				}
				return f.out.say(c, map[string]string{"deleted": args[1]}, "%s %s deleted", args[0], args[1])
			})
		},
	}
	f.add(c)
	addYes(c, &yes)
	return c
}

// newClusterWriteCommand makes wipe-write and add-write.
func newClusterWriteCommand(verb, short string, code protocol.RequestCode) *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   verb + " BROKER",
		Short: short,
		Long:  short + ".\n\nThe name servers forget it when they or the broker restart.",
		Args:  takes("broker"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				if _, err := cl.brokers(ctx, scope{broker: args[0]}); err != nil {
					return err
				}
				counts := map[string]int32{}
				for _, addr := range cl.servers {
					n, err := cl.changeWrite(ctx, addr, code, args[0])
					if err != nil {
						return err
					}
					counts[addr] = n
				}
				return f.out.print(c, counts, func(w io.Writer) error {
					for _, addr := range cl.servers {
						fmt.Fprintf(w, "name server %s: %d topics of %s changed\n", addr, counts[addr], args[0])
					}
					return nil
				})
			})
		},
	}
	f.add(c)
	completeArgs(c, brokerNames)
	return c
}

func (c *cluster) changeWrite(ctx context.Context, addr string, code protocol.RequestCode, broker string) (int32, error) {
	var wiped protocol.WipePermResult
	var added protocol.AddPermResult
	var result protocol.Header = &wiped
	if code == protocol.ReqAddWritePermOfBroker {
		result = &added
	}
	_, err := c.ask(ctx, addr, request{code: code, header: &protocol.BrokerHeader{BrokerName: broker}}, result)
	return wiped.Topics + added.Topics, err
}

// cleanings are what brokers can be told to clean.
var cleanings = map[string]protocol.RequestCode{
	"log":    protocol.ReqDeleteExpiredCommitLog,
	"queues": protocol.ReqCleanExpiredConsumeQueue,
	"topics": protocol.ReqCleanUnusedTopic,
}

func newClusterCleanCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	c := &cobra.Command{
		Use:   "clean log|queues|topics",
		Short: "Have brokers delete expired log segments, expired queue indexes or unused topics now",
		Args:  takes("kind of thing"),
		RunE: func(c *cobra.Command, args []string) error {
			code, ok := cleanings[args[0]]
			if !ok {
				return usagef("%q: want one of %s", args[0], sortedKeys(cleanings))
			}
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, err := cl.writable(ctx, s)
				if err != nil {
					return err
				}
				for _, b := range brokers {
					if _, err := cl.ask(ctx, b.addr, request{code: code}, nil); err != nil {
						return fmt.Errorf("broker %q: %w", b.name, err)
					}
				}
				names := namesOf(brokers)
				return f.out.say(c, map[string]any{"cleaned": args[0], "on": names}, "%s cleaned on %s", args[0], strings.Join(names, ", "))
			})
		},
		ValidArgs: slices.Sorted(maps.Keys(cleanings)),
	}
	f.add(c)
	s.add(c)
	return c
}
