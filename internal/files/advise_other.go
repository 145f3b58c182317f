//go:build !linux

package files

// adviseSequential does nothing where the system reads ahead by itself.
func adviseSequential(handle) {}
