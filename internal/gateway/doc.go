// Package gateway is the process in front of one local deployment. It starts
// the model servers, passes requests on to them, and carries rollouts out by
// itself, so that serving and a half-done canary both survive the death of ml.
//
// The folder of a deployment is the whole interface: Apply writes a Desired to
// desired.json, the gateway answers in state.json, and Read and Wait read it
// back as a Live. Start makes sure that a gateway runs on the folder (its body
// is Main, in a detached process); Stop drains and ends it. A gateway that was
// killed at any moment goes on from its folder, on the same port.
//
// The package never reads the project's state, never runs a shell, never opens
// anything but loopback in front of local servers, and answers no request by
// itself except for errors.
//
// Route is the same request path without servers and decisions: a router that
// passes requests on to versions which run elsewhere, as the Routes that it is
// given say, and tells whoever decides (by Decide) what it counted. It is for
// clusters, and the one that listens on more than loopback.
//
// Inside: controller (decides, one goroutine) → release (a version's servers)
// → replica (keeps one server alive); router and proxy carry the requests;
// Decide in rollout.go is the pure rollout machine; capture/ keeps the answers.
package gateway
