package main

import "testing"

func TestTroublesOfGroups(t *testing.T) {
	const long = troubleSeconds
	silent := func() (bool, bool) { return false, false }
	idle := func() (bool, bool) { return false, true }
	busy := func() (bool, bool) { return true, true }
	for name, c := range map[string]struct {
		g         listedGroup
		consuming func() (consumes, known bool)
		want      string
	}{
		"no lag, nobody there":                 {listedGroup{Behind: 3600}, nil, ""},
		"a lag, nobody there":                  {listedGroup{Lag: 1, TPS: 5}, nil, "offline"},
		"nobody there, for long":               {listedGroup{Lag: 1, Behind: 3600}, nil, "offline"},
		"all is consumed":                      {listedGroup{Members: 1, Behind: 3600}, nil, ""},
		"not behind for long":                  {listedGroup{Lag: 1, Members: 1, Behind: long - 0.1}, nil, ""},
		"consumes nothing":                     {listedGroup{Lag: 1, Members: 1, Behind: long}, idle, "stuck"},
		"consumes nothing of what it is given": {listedGroup{Lag: 1, Members: 1, Behind: long, TPS: 0.1}, idle, "stuck"},
		"consumes what it was given long ago":  {listedGroup{Lag: 1, Members: 1, Behind: long}, busy, "slow"},
		"consumes too little":                  {listedGroup{Lag: 1, Members: 1, Behind: long, TPS: 0.1}, busy, "slow"},
		"given nothing, and does not tell":     {listedGroup{Lag: 1, Members: 1, Behind: long}, silent, "stuck"},
		"given messages, and does not tell":    {listedGroup{Lag: 1, Members: 1, Behind: long, TPS: 0.1}, silent, "slow"},
	} {
		consuming := c.consuming
		if consuming == nil {
			consuming = func() (bool, bool) { t.Errorf("%s: the members are asked", name); return false, false }
		}
		if got := c.g.trouble(consuming); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
