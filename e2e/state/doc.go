// Package state tests states in shared places on real servers: S3, and the API
// server of the cluster.
package state
