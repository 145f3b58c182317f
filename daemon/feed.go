package daemon

import (
	"sync"
	"time"
)

// Note is something that happened, for whoever watches.
type Note struct {
	ID         uint64    `json:"id"`
	Time       time.Time `json:"time"`
	Type       string    `json:"type"` // phase, or an event's type
	Repository string    `json:"repository"`
	Address    string    `json:"address,omitempty"`
	Message    string    `json:"message,omitempty"`
}

// Limits of a feed.
const (
	feedKeeps  = 500 // notes, and up to twice as many, for those who come later
	feedQueue  = 64  // notes that a slow reader may be behind
	maxReaders = 200
)

// feed tells many readers what happens, and waits for none of them: who is too
// slow is left out and may come again with the last id that it saw.
type feed struct {
	mu      sync.Mutex
	last    uint64
	kept    []Note
	readers map[chan Note]bool
}

func newFeed() *feed { return &feed{readers: map[chan Note]bool{}} }

func (f *feed) publish(n Note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	n.ID = f.last
	if n.Time.IsZero() {
		n.Time = time.Now()
	}
	if f.kept = append(f.kept, n); len(f.kept) > 2*feedKeeps { // now and then, not at each
		f.kept = append(f.kept[:0:0], f.kept[len(f.kept)-feedKeeps:]...)
	}
	for ch := range f.readers {
		select {
		case ch <- n:
		default:
			delete(f.readers, ch)
			close(ch)
		}
	}
}

// follow gives what came after an id, and a channel of what comes; it is closed
// when the reader is too slow. ok is false when there are too many readers.
func (f *feed) follow(after uint64) (past []Note, ch chan Note, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) >= maxReaders {
		return nil, nil, false
	}
	for _, n := range f.kept {
		if n.ID > after {
			past = append(past, n)
		}
	}
	ch = make(chan Note, feedQueue)
	f.readers[ch] = true
	return past, ch, true
}

func (f *feed) leave(ch chan Note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readers[ch] {
		delete(f.readers, ch)
		close(ch)
	}
}
