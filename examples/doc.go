// Package examples holds projects to learn from: quickstart (the whole loop),
// sklearn (tuning, a gate by group, batch scoring) and modules (one model per
// region). Each is run by a test from an empty folder to its destruction, under the
// build tag `examples`, because they train and serve for real: `make examples`.
// demo.sh tells the quickstart's story; traffic.py stands in for its users.
package examples
