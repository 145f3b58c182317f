// Package config turns HCL files into a [Project]: blocks with their references,
// expanded by for_each, count and modules, each of which can be evaluated
// against what other blocks offer.
//
// Loading never executes anything, reads nothing outside the project folder and
// keeps the parser's limits, so that a hostile file ends in a diagnostic.
// Evaluation of one block sees only what that block references; values that are
// not known yet stay unknown and flow through. Every kind of block is one file
// here ([Kind], listed in [AllKinds]); schemas of providers come in as values.
package config
