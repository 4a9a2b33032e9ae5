package server

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/namesrv"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// servedCodes are the codes in each role's table.
func servedCodes() map[string]map[int]bool {
	served := map[string]map[int]bool{}
	for role, routes := range map[string][]remoting.Route{
		RoleBroker:  (&broker.Broker{}).Routes(),
		RoleNamesrv: (&namesrv.NameServer{}).Routes(),
	} {
		served[role] = map[int]bool{}
		for _, r := range routes {
			served[role][int(r.Code)] = true
		}
	}
	return served
}

// unsupportedRows reads docs/UNSUPPORTED.md: "code role" -> reason.
func unsupportedRows(t *testing.T) map[string]string {
	f, err := os.Open("../docs/UNSUPPORTED.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		cells := strings.Split(s.Text(), "|")
		if len(cells) != 6 {
			continue
		}
		if code, err := strconv.Atoi(strings.TrimSpace(cells[1])); err == nil {
			if name := strings.TrimSpace(cells[2]); name != protocol.RequestCode(code).String() {
				t.Errorf("docs/UNSUPPORTED.md: code %d is %s, not %s", code, protocol.RequestCode(code), name)
			}
			rows[fmt.Sprint(code, " ", strings.TrimSpace(cells[3]))] = strings.TrimSpace(cells[4])
		}
	}
	return rows
}

func TestEveryRequestCodeIsServedOrExplained(t *testing.T) {
	served, unsupported := servedCodes(), unsupportedRows(t)
	f, err := os.Open("testdata/request_codes.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) != 3 {
			continue
		}
		code, err := strconv.Atoi(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		seen++
		for role := range strings.SplitSeq(fields[2], ",") {
			reason, explained := unsupported[fmt.Sprint(code, " ", role)]
			switch {
			case role == "client":
			case served[role][code] && explained:
				t.Errorf("%d %s: served by the %s, delete its row in docs/UNSUPPORTED.md", code, fields[1], role)
			case !served[role][code] && !explained:
				t.Errorf("%d %s: neither in the %s's Routes() nor in docs/UNSUPPORTED.md", code, fields[1], role)
			case explained && len(reason) < 8:
				t.Errorf("%d %s: docs/UNSUPPORTED.md gives no reason", code, fields[1])
			}
		}
	}
	if want := len(protocol.RequestCodes()); seen != want {
		t.Errorf("testdata/request_codes.txt has %d codes, package protocol %d", seen, want)
	}
}
