package pods

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
)

// oneObject is an API server that has one Job, or does not, or does not say. It stands for moments that a real one shows by chance.
type oneObject struct {
	there, silent, deleted atomic.Bool
}

func (s *oneObject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.silent.Load():
		http.Error(w, "no quorum", http.StatusServiceUnavailable)
	case !s.there.Load():
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","code":404,"reason":"NotFound","message":"not found","details":{"name":"j"}}`)
	case r.Method == http.MethodDelete:
		s.deleted.Store(true)
		s.there.Store(false)
		fmt.Fprint(w, "{}")
	default:
		fmt.Fprint(w, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","namespace":"ns","uid":"u","labels":{"`+LabelRun+`":"r"}}}`)
	}
}

func (s *oneObject) client(t *testing.T) *kube.Client {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return clientOf(t, srv.URL, -1)
}

func TestAStartThatFailedIsTakenBackOrStaysOpenButNeverInBetween(t *testing.T) {
	unknown := &kube.Retryable{Err: errors.New("reset"), Unknown: true}
	answered := &kube.Retryable{Err: errors.New("503")}
	denied := &kube.ForbiddenError{Verb: "get", Resource: "jobs.batch"}
	refused := func(err error) error { return fmt.Errorf("%w: %w", errRefused, err) }
	for name, test := range map[string]struct {
		cause                    error
		before, there, silent    bool
		open, placed, over, gone bool
	}{
		"the answer to its making never came":                      {cause: refused(unknown), open: true, placed: true},
		"it was made, and the answer never came":                   {cause: refused(unknown), there: true, open: true, placed: true},
		"it was refused for as long as it was asked":               {cause: refused(answered), placed: true, over: true},
		"it was refused for good":                                  {cause: refused(denied), placed: true, over: true},
		"what it needs besides was refused for good":               {cause: denied, there: true, placed: true, over: true, gone: true},
		"what it needs besides was not taken for now":              {cause: answered, there: true, open: true, placed: true},
		"it was refused, and then nobody answers":                  {cause: refused(denied), silent: true, open: true, placed: true},
		"nobody could look, and nobody has tried before":           {cause: fmt.Errorf("%w: %w", errBefore, answered), silent: true},
		"who may not look has made nothing":                        {cause: fmt.Errorf("%w: %w", errBefore, denied)},
		"nobody could look, and somebody before may have begun it": {cause: fmt.Errorf("%w: %w", errBefore, answered), before: true, silent: true, open: true, placed: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &oneObject{}
			s.there.Store(test.there)
			s.silent.Store(test.silent)
			f, k := folder(t.TempDir()), theJob()
			k.created, k.isPlaced, k.placed.Run, k.placed.At = created{}, test.before, "r", time.Now()
			if err := f.note(placedFile, k.placed); err != nil {
				t.Fatal(err)
			}
			err := (&executor{Env: &Env{}}).abandon(t.Context(), s.client(t), f, k, test.cause)
			var open *providers.OpenError
			if err == nil || errors.As(err, &open) != test.open {
				t.Errorf("open %t: %v", test.open, err)
			}
			now, err := f.known()
			if err != nil || now.isPlaced != test.placed || now.isOver != test.over || s.deleted.Load() != test.gone {
				t.Errorf("placed %t, over %t, deleted %t, %v", now.isPlaced, now.isOver, s.deleted.Load(), err)
			}
		})
	}
}
