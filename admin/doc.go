// Package admin is the node's HTTP port: metrics, health, readiness and profiles. It knows what it is handed as functions, and no role.
package admin
