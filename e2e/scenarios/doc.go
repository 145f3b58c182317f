// Package scenarios proves on a real cluster, by ml commands only, what the Kubernetes providers promise. `make e2e` runs it on
// the cluster of e2e/cluster; with ML_E2E_KUBECONFIG, ML_E2E_REGISTRY and ML_E2E_IMAGE it runs on any.
//
// Scenarios that stay in their namespace run beside each other, as many as go test allows; those that break the cluster, or count what it
// is asked, run alone and before them.
package scenarios
