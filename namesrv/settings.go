package namesrv

import (
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// UPDATE_NAMESRV_CONFIG (318), GET_NAMESRV_CONFIG (319).
//
// Properties as text, one name=value a line. Options of the black list are NO_PERMISSION.
//
// Differences from RocketMQ: 318 refuses an option that does not exist or would do nothing, and a value that does not fit
// (INVALID_PARAMETER, naming it), and then changes nothing; there both are answered with SUCCESS and ignored. What 318 set is kept in
// namesrv.properties and stays in force after a restart, before the node's own configuration.

func (n *NameServer) updateConfig(c *call) (*remoting.Response, error) {
	changes := parseProperties(string(c.Body))
	n.fileMu.Lock()
	defer n.fileMu.Unlock()
	next := n.config()
	for _, s := range changes {
		if next.blacklisted(s.name) {
			return nil, protocol.Errorf(protocol.RespNoPermission, "Can not update config in black list.")
		}
	}
	for _, s := range changes {
		if err := next.Set(s.name, s.value); err != nil {
			return nil, err
		}
	}
	if len(changes) == 0 {
		return success(), nil
	}
	if err := checkConfig(&next, &n.o); err != nil {
		return nil, err
	}
	if err := n.saveSettings(changes); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.table.cfg = next
	n.table.version++
	n.mu.Unlock()
	for _, s := range changes {
		n.o.Log.Info("option changed", "name", s.name, "value", s.value)
	}
	return success(), nil
}

// saveSettings adds the changes to those that are kept. The caller holds fileMu.
func (n *NameServer) saveSettings(changes []setting) error {
	kept, err := loadSettings(n.o.FS, n.o.Dir)
	if err != nil {
		return err
	}
	byName := map[string]string{}
	for _, s := range append(kept, changes...) {
		byName[s.name] = s.value
	}
	kept = nil
	for name, value := range byName {
		kept = append(kept, setting{name, value})
	}
	return writeFile(n.o.FS, n.o.Dir, settingsFile, []byte(formatProperties(kept)))
}

func (n *NameServer) config() Config {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.table.cfg
}

func (n *NameServer) getConfig(*call) (*remoting.Response, error) {
	cfg := n.config()
	all := []setting{
		{"configStorePath", n.o.FS.PathJoin(n.o.Dir, settingsFile)},
		{"kvConfigPath", n.o.FS.PathJoin(n.o.Dir, kvFile)},
	}
	for _, p := range properties() {
		all = append(all, setting{p.name, p.get(&cfg)})
	}
	resp := success()
	resp.Body = []byte(formatProperties(all))
	return resp, nil
}
