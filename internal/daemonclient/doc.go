// Package daemonclient reads what a running ml daemon keeps of a project: how its blocks stand, its history, its logs, and the recorded
// state, for a plan in another place. It also allows a plan that waits.
//
// The token goes to the daemon's own address only, is never followed to another one, and never sent unencrypted beyond this machine. What a
// daemon answers is bounded and checked. Main types: [Client], made by [New], and the forms of answers, which the daemon writes.
package daemonclient
