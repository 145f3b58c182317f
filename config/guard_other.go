//go:build !linux

package config

// limitMemory is left to watchMemory where address space cannot be capped so.
func limitMemory() {}
