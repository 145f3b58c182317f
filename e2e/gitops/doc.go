// Package gitops holds the end-to-end tests of pull requests on a real Gitea: `go test -tags e2e ./e2e/gitops`.
package gitops
