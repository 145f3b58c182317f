package providers

import "sync"

// Look is one look at the world. Drivers keep in it what several of them read for it, so that the same list is not read by each. It ends
// with the refresh: nothing that was kept for one look answers another, or an apply. A nil Look keeps nothing.
type Look struct {
	mu   sync.Mutex
	kept map[any]any
}

// Once returns what make made for the key, which is called for the first who asks. It must not block: what takes time belongs into what it
// returns. The key's type should be one of the caller's package.
func (l *Look) Once(key any, make func() any) any {
	if l == nil {
		return make()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.kept[key]
	if !ok {
		v = make()
		if l.kept == nil {
			l.kept = map[any]any{}
		}
		l.kept[key] = v
	}
	return v
}

// LookOf is the look that a batch of reads belongs to; nil for none.
func LookOf(reqs []ReadRequest) *Look {
	if len(reqs) == 0 {
		return nil
	}
	return reqs[0].Look
}
