package watch

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/state"
)

// BenchmarkObserve looks at 10,000 captured requests of 30 features, in windows of 200: when they are all new, and when none is.
func BenchmarkObserve(b *testing.B) {
	t := &testing.T{} // the helpers ask for one; what they report ends the benchmark all the same
	p := &providertest.Project{T: t, Root: b.TempDir()}
	w := newLookout(t, p)
	dice := rand.New(rand.NewPCG(3, 4))
	features := make([]string, 30)
	for i := range features {
		features[i] = fmt.Sprintf("f%d", i)
	}
	row := func() []any {
		out := make([]any, len(features))
		for i := range out {
			out[i] = dice.NormFloat64()
		}
		return out
	}
	var file strings.Builder
	file.WriteString(strings.Join(features, ",") + "\n")
	for range 5000 {
		file.WriteString(strings.Trim(fmt.Sprint(row()), "[]") + "\n")
	}
	w.Write(".ml/data/ref/train.csv", strings.ReplaceAll(file.String(), " ", ","))
	w.spec.Window = &config.Window{Requests: 200}
	w.serving(1)
	for range 10 {
		entries := make([]capture.Entry, 1000)
		for i := range entries {
			entries[i] = w.asked(1, row(), 1.0)
		}
		w.captured(entries...)
	}
	schema := providertest.Encoded(t, w.spec)
	raw, err := state.EncodeValue(schema)
	if err != nil {
		b.Fatal(err)
	}
	req := providers.ObserveRequest{Address: monitorAddr, Record: &state.Record{Spec: raw}, State: w.snap}
	look := func(b *testing.B) []*state.Signal {
		s, err := w.m.Observe(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	b.Run("50 new windows", func(b *testing.B) {
		for b.Loop() {
			look(b)
		}
	})
	req.Signals = look(b)
	b.Run("nothing new", func(b *testing.B) {
		for b.Loop() {
			look(b)
		}
	})
}
