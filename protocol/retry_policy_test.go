package protocol

import (
	"strings"
	"testing"
)

// What fastjson 2.0.59 made of these as the groupRetryPolicy of a SubscriptionGroupConfig of RocketMQ 5.5.0.
func TestRetryPoliciesAreTakenAndRefusedAsFastjsonDoes(t *testing.T) {
	for _, policy := range []string{
		`null`, `{}`, `""`, `{"type":"EXPONENTIAL"}`, `{"type":"exponential"}`, `{"type":"Other"}`, `{"type":null}`, `{"type":0}`, `{"type":1}`,
		`{"type":"CUSTOMIZED","customizedRetryPolicy":{"next":[1000,5000]}}`, `{"customizedRetryPolicy":{"next":[]}}`,
		`{"customizedRetryPolicy":{"next":null}}`, `{"customizedRetryPolicy":{"next":[-1,"12",1.5,null]}}`, `{"exponentialRetryPolicy":{}}`,
		`{"exponentialRetryPolicy":{"initial":-5,"max":"7","multiplier":true}}`, `{"type":"EXPONENTIAL","x":1,"exponentialRetryPolicy":{"initial":1,"y":2}}`,
	} {
		if err := CheckRetryPolicy([]byte(policy)); err != nil {
			t.Errorf("%s: %v", policy, err)
		}
	}
	for policy, want := range map[string]string{
		`[]`: "array", `5`: "number", `"x"`: "string", `{"type":7}`: "type 7 is neither", `{"type":true}`: "type true is neither", `{"type":{}}`: "type {} is neither",
		`{"customizedRetryPolicy":{"next":["x"]}}`: `"x" is no number`, `{"customizedRetryPolicy":{"next":5}}`: "number", `{"customizedRetryPolicy":{"next":"5"}}`: "string",
		`{"customizedRetryPolicy":[]}`: "array", `{"customizedRetryPolicy":5}`: "number", `{"exponentialRetryPolicy":{"initial":"x"}}`: `"x" is no number`,
		`{"exponentialRetryPolicy":{"initial":99999999999999999999}}`: "64 bits", `{"exponentialRetryPolicy":{"initial":{}}}`: "{} is no number", `{bad`: "invalid character",
	} {
		if err := CheckRetryPolicy([]byte(policy)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `want {"type"`) {
			t.Errorf("%s: %v, want %q", policy, err, want)
		}
	}
}
