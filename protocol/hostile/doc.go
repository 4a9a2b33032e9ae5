// Package hostile has what a test sends to a role that must refuse it well: requests whose fields and bodies hold what they should not.
// It knows no role and no connection: a test hands in how a request is answered.
//
// It and server/servertest are the packages of the product, other than test files, that import testing.
package hostile
