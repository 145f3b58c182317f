package runs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// BenchmarkProbeUnchanged is what a plan asks when nothing moved: the content of 2,500 small sources and the code of as many
// commands, by another process than the one that digested them.
func BenchmarkProbeUnchanged(b *testing.B) {
	const blocks = 2500
	root := b.TempDir()
	var data, code []cty.Value
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(root, "train.py"), []byte("print()\n"), 0o600))
	for i := range blocks {
		at := fmt.Sprintf("data/%02d/%d.csv", i%50, i)
		must(os.MkdirAll(filepath.Join(root, filepath.Dir(at)), 0o700))
		must(os.WriteFile(filepath.Join(root, at), []byte(tableOf(i%50)), 0o600))
		v, err := resource.Encode(config.Dataset{Source: at})
		must(err)
		data = append(data, v)
		v, err = resource.Encode(config.Training{Exec: config.Exec{Command: []string{"python3", "train.py", fmt.Sprint(i)}}})
		must(err)
		code = append(code, v)
	}
	plan := func() {
		pr := open(b, providertest.Env(root), 0)
		for kind, values := range map[string][]cty.Value{"dataset": data, "training": code} {
			p, _ := providers.As[providers.Prober](pr.Drivers[kind])
			for _, v := range values {
				_, err := p.Probe(b.Context(), providers.ProbeRequest{Address: providertest.AddressOf(kind), Spec: v})
				must(err)
			}
		}
		must(pr.Close())
	}
	plan()
	for b.Loop() {
		plan()
	}
}
