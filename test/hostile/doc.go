// Package hostile runs the built operator under the memory limit of its Deployment,
// and lets tenants, servers and clients attack it, one after the other. After each
// attack the operator must live, and the pool of an innocent neighbor in another
// namespace must have run every command meanwhile.
//
//	go test ./test/hostile -v
//
// It prints a table: what each attack was, how much memory the operator held before
// and at most, and what the neighbor noticed. The limit is a control group's where
// this process may make one, as root may, and otherwise that of the process's data.
//
// No bound here is a matter of milliseconds: an attacker's share of the processors is
// that of any process of this machine, which the operator does not govern. The
// neighbor's latencies are printed, and only a command that fails or that waits for
// seconds fails the test.
package hostile
