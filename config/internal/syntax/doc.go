// Package syntax turns the bytes of configuration files into HCL syntax trees
// without letting hostile bytes reach the parser.
//
// HCL's parser recurses as deep as its input nests, and a deep enough one kills
// the process beyond recover. So [Scan] measures size, tokens, nesting, prefix
// runs, operator chains and exponents first, and [Parse] parses only what passed.
// Large files are cut at top-level lines and their pieces parsed in parallel.
// JSON files become the same trees ([BodyOfJSON], [ExprOfJSON]), so that the rest
// of the program knows one syntax. Nothing is evaluated here.
package syntax
