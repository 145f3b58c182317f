package state

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// The separators inside keys. Neither can stand in an address: names are
// checked by config and instance keys are quoted.
const (
	fieldSep = "\x1f" // between the four fields of an address
	partSep  = "\x00" // between an address and what it is a key of
)

// addressKey is the stored form of an address. Unlike the rendered one it is
// read back by cutting at separators, which matters at 10,000 records, and it
// sorts the way Compare does (but for the order of integer keys).
func addressKey(a resource.Address) (string, error) {
	if a.Kind == "" || a.Name == "" {
		return "", fmt.Errorf("an address needs a kind and a name, got %q", a.String())
	}
	for _, f := range [...]string{a.Module, a.Kind, a.Name, a.Key} {
		if strings.Contains(f, fieldSep) || strings.Contains(f, partSep) {
			return "", fmt.Errorf("the address %q holds a control character", a.String())
		}
	}
	key := a.Module + fieldSep + a.Kind + fieldSep + a.Name + fieldSep + a.Key
	if len(key) > maxKey {
		return "", fmt.Errorf("the address %.60q… is longer than %d bytes", key, maxKey)
	}
	return key, nil
}

// parseKey reads an address key, and what follows it after partSep.
func parseKey(key string) (a resource.Address, rest string, err error) {
	addr, rest, _ := strings.Cut(key, partSep)
	fields := [4]string{}
	n := 0
	for ; n < 3; n++ {
		f, tail, ok := strings.Cut(addr, fieldSep)
		if !ok {
			break
		}
		fields[n], addr = f, tail
	}
	if n < 3 || strings.Contains(addr, fieldSep) || fields[1] == "" || fields[2] == "" {
		return resource.Address{}, "", fmt.Errorf("the key %q names no address", key)
	}
	return resource.Address{Module: fields[0], Kind: fields[1], Name: fields[2], Key: addr}, rest, nil
}

// numberKey makes version numbers sort as numbers.
func numberKey(n int) string { return fmt.Sprintf("%010d", n) }

// DescribeKey renders a stored key for people: `training.churn`, `training.churn 3`.
func DescribeKey(bucket, key string) string {
	a, rest, err := parseKey(key)
	if err != nil {
		return bucket + " " + strconv.Quote(key)
	}
	if rest == "" {
		return bucket + " " + a.String()
	}
	return bucket + " " + a.String() + " " + rest
}
