// Package daemon keeps projects in git repositories applied: it fetches, plans,
// asks where it must, applies what its policy allows, and watches on.
//
// Each repository has a loop of its own that compares levels, never edges: a
// missed webhook costs an interval. Three revisions are kept apart: observed is
// the branch's newest commit, attempted the one that was tried last, applied the
// one that the world follows. A repository that is empty, broken or out of reach
// takes nothing away. Settings, policies and signers come from the daemon's own
// file (daemon.hcl), never from a repository.
//
// Main entries: Load reads the file, New and Daemon.Run do the work, Handler
// answers over HTTP. It prints nothing; it logs through slog.
package daemon
