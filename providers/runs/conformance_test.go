package runs

import (
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// counted notes that the command was begun, and waits while there is no file `go`.
const counted, slowly = "echo run >> count; ", "while [ ! -e go ]; do sleep 0.02; done; "

func TestEveryDriverKeepsTheContract(t *testing.T) {
	data := func(p *project) map[string]any { return map[string]any{"d": p.dataInput("d.csv", table)} }
	cases := map[string]func(p *project) (spec, slow any){
		"check": func(p *project) (any, any) {
			return config.Check{Exec: sh(counted), Inputs: data(p)}, config.Check{Exec: sh(counted + slowly)}
		},
		"training": func(p *project) (any, any) {
			end := "echo m > $ML_MODEL_DIR/m; echo '{\"loss\": 1}' > $ML_METRICS"
			return config.Training{Exec: sh(counted + end), Inputs: data(p), Params: map[string]any{"a": 1}}, config.Training{Exec: sh(counted + slowly + end)}
		},
		"validation": func(p *project) (any, any) {
			v := func(script string) config.Validation {
				return config.Validation{
					Exec: sh(script + "cp $ML_MODEL_DIR/metrics $ML_METRICS"), Model: p.model(1, `{"recall": 0.9}`), Inputs: data(p),
					Thresholds: []config.Threshold{{Metric: "recall", Min: new(0.8)}},
				}
			}
			return v(counted), v(counted + slowly)
		},
		"batch_inference": func(p *project) (any, any) {
			b := func(script string) config.BatchInference {
				s := p.batchSpec(9, script+"cp \"$ML_INPUT_DATA\" \"$ML_OUTPUT\"")
				s.Exec = sh(script + `cp "$ML_INPUT_DATA" "$ML_OUTPUT"`)
				return s
			}
			return b(counted), b(counted + slowly)
		},
		"dataset": func(p *project) (any, any) {
			d := func(script string) config.Dataset {
				return config.Dataset{Exec: sh(script + "cp \"$ML_INPUT_D\" $ML_OUTPUT"), Inputs: data(p), Splits: []config.SplitDef{{Name: "a", Fraction: 0.5}}}
			}
			return d(counted), d(counted + slowly)
		},
	}
	for kind, specs := range cases {
		t.Run(kind, func(t *testing.T) {
			p := newProject(t, nil)
			spec, slow := specs(p)
			providertest.Run(t, providertest.Case{
				Driver: p.Drivers[kind], Kind: kind, Spec: providertest.Encoded(t, spec), Slow: providertest.Encoded(t, slow), AfterDelete: resource.PhaseReady,
				Count: func() int { return lineCount(p.Read("count")) }, Release: func() { p.Write("go", "") },
			})
		})
	}
	t.Run("dataset of a source", func(t *testing.T) {
		p := newProject(t, map[string]string{"x.csv": table})
		providertest.Run(t, providertest.Case{
			Driver: p.Drivers["dataset"], Kind: "dataset", AfterDelete: resource.PhaseReady, Slow: cty.NilVal,
			Spec: providertest.Encoded(t, config.Dataset{Source: "x.csv", Target: "age", Splits: []config.SplitDef{{Name: "a", Fraction: 0.5}}}),
		})
	})
}
