//go:build !unix

package pod

const nonBlock = 0
