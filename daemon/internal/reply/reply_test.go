package reply_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/continuo-ml/continuo/daemon/internal/reply"
)

// N14: what JSON cannot say is an error, and no half of an answer.
func TestN14ANumberThatJSONCannotSayIsAnError(t *testing.T) {
	rec := httptest.NewRecorder()
	reply.JSON(rec, map[string]any{"ok": 1, "psi": math.NaN()})
	if rec.Code != http.StatusInternalServerError || rec.Header().Get("Content-Type") == "application/json" {
		t.Errorf("%d %q", rec.Code, rec.Body)
	}
}

func TestACodeComesWithItsDocument(t *testing.T) {
	rec := httptest.NewRecorder()
	reply.Status(rec, http.StatusAccepted, map[string]bool{"accepted": true})
	got := rec.Result()
	if got.StatusCode != http.StatusAccepted || got.Header.Get("Content-Type") != "application/json" || rec.Body.String() != "{\"accepted\":true}\n" {
		t.Errorf("%d %v %q", got.StatusCode, got.Header, rec.Body)
	}
}

func TestAnEventThatJSONCannotSayIsLeftOut(t *testing.T) {
	rec := httptest.NewRecorder()
	s := reply.NewStream(rec, reply.Events)
	if !s.Event("log", math.Inf(1)) || !s.Event("log", []int{1}) {
		t.Error("the reader is gone")
	}
	if got := rec.Body.String(); got != "event: log\ndata: [1]\n\n" || s.Sent() != int64(len(got)) {
		t.Errorf("%q, %d", got, s.Sent())
	}
}
