package main

import "testing"

func TestTroublesOfGroups(t *testing.T) {
	for name, c := range map[string]struct {
		g    listedGroup
		want string
	}{
		"no lag, nobody there":       {listedGroup{Behind: 3600}, ""},
		"a lag, nobody there":        {listedGroup{Lag: 1, TPS: 5}, "offline"},
		"nobody there, for long":     {listedGroup{Lag: 1, Behind: 3600}, "offline"},
		"given nothing for a minute": {listedGroup{Lag: 1, Members: 1, Behind: stuckSeconds}, "stuck"},
		"given nothing yet":          {listedGroup{Lag: 1, Members: 1, Behind: stuckSeconds - 0.1}, ""},
		"given too little":           {listedGroup{Lag: 1, Members: 1, Behind: stuckSeconds, TPS: 0.1}, "slow"},
		"given enough":               {listedGroup{Lag: 1, Members: 1, Behind: stuckSeconds - 0.1, TPS: 0.1}, ""},
		"all is consumed":            {listedGroup{Members: 1, Behind: 3600}, ""},
	} {
		if got := c.g.trouble(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
