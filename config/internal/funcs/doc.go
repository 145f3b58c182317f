// Package funcs is the table of functions that configuration files may call:
// those of cty's standard library under the names that users know from
// Terraform, and functions that read files inside the project.
//
// Every function is pure: none reads the clock, the environment, the network or
// anything outside the project. Those whose result can be much larger than their
// arguments check the size first and refuse, so that a call cannot exhaust memory.
package funcs
