// Package engine does the doing: it settles what a crash left open, refreshes
// live state, applies plans step by step with a journal, evaluates monitors and
// records what came of it all.
//
// It knows providers by their contract only and plans by the planner's types;
// it never plans while it applies. [Engine.Plan] reads and writes nothing;
// everything that writes goes through a [Session], which holds the lease.
// Progress goes out as events; nothing here prints.
package engine
