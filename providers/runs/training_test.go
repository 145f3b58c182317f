package runs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// dataInput freezes a table and returns it as an input.
func (p *project) dataInput(name, text string) map[string]any {
	p.T.Helper()
	p.Write("in/"+name, text)
	out := p.MustApply("dataset", "data-"+strings.NewReplacer(".", "-").Replace(name), config.Dataset{Source: "in/" + name}).Outputs.(config.DatasetOutputs)
	return map[string]any{"address": out.Address, "name": "", "digest": out.Digest, "path": out.Path, "rows": out.Rows}
}

const trainScript = `
echo "$ML_RUN_ID" >> runs.log
cp "$ML_INPUT_TRAIN" "$ML_MODEL_DIR/data.csv"
printf '{"epochs": %s, "seed": %s}' "$ML_PARAM_EPOCHS" "$ML_SEED" > "$ML_METRICS"
echo '{"step": 1, "of": 2, "loss": 0.5}' >> "$ML_PROGRESS"
`

func TestATrainingMakesAVersionOnce(t *testing.T) {
	p := newProject(t, map[string]string{"train.sh": trainScript})
	spec := config.Training{
		Exec:   config.Exec{Command: []string{"sh", "train.sh"}},
		Inputs: map[string]any{"train": p.dataInput("t.csv", table)},
		Params: map[string]any{"epochs": 3, "layers": []any{8, 4}}, Seed: 7,
	}
	r := p.MustApply("training", "op1", spec)
	out := r.Outputs.(config.TrainingOutputs)
	v := r.Version
	if v == nil || v.Digest == "" || v.Bytes != int64(len(table)) || v.Run != "op1" || v.Inputs != resource.DigestOf([]byte("inputs")) {
		t.Fatalf("version %+v", v)
	}
	if d := cmp.Diff(map[string]float64{"epochs": 3, "seed": 7}, v.Metrics); d != "" {
		t.Error(d)
	}
	if out.Model.Digest != string(v.Digest) || out.Model.Name != "x" || out.Model.Address != "training.x" || out.Model.URI != v.URI {
		t.Errorf("outputs %+v, version %+v", out.Model, v)
	}
	if p.Read(v.URI) == "" {
		t.Errorf("nothing stands at %s", v.URI)
	}
	if !p.Logged("step 1 of 2, loss 0.5") {
		t.Error("no progress was told")
	}
	if providertest.Encoded(t, out).GetAttr("model").GetAttr("params").GetAttr("layers").LengthInt() != 2 {
		t.Error("nested parameters are lost")
	}
	p.connect()
	again := p.MustApply("training", "op1", spec)
	if again.Version.Digest != v.Digest || !cmp.Equal(again.Metrics, r.Metrics) {
		t.Errorf("the second call made %+v", again.Version)
	}
	if n := lineCount(p.Read("runs.log")); n != 1 {
		t.Errorf("it ran %d times", n)
	}
	store, err := files.OpenStore(p.Path(".ml/artifacts"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Checkout(v.Digest.Hex(), t.TempDir()+"/model"); err != nil {
		t.Error(err)
	}
}

func TestATrainingThatWroteNoModelOrBadMetricsFailed(t *testing.T) {
	cases := map[string]struct{ script, text string }{
		"no model":        {"echo hello", "wrote no model"},
		"an exit code":    {"echo the reason; exit 2", "training.x: exit code 2"},
		"unusable number": {`echo m > $ML_MODEL_DIR/m; echo '{"loss": NaN}' > $ML_METRICS`, `"loss" is NaN`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, nil)
			_, err := p.Apply("training", "op1", config.Training{Exec: sh(c.script)})
			log, _ := providertest.WantRunError(t, err, c.text)
			if name == "an exit code" && !cmp.Equal(log, []string{"the reason"}) {
				t.Errorf("log %q", log)
			}
		})
	}
}

func TestASmokeRunComesFirstOnFewRowsAndOwnParameters(t *testing.T) {
	p := newProject(t, map[string]string{"train.sh": `
echo "$ML_PARAM_EPOCHS $ML_PARAM_RATE $(wc -l < $ML_INPUT_TRAIN) $(head -1 $ML_INPUT_TRAIN)" >> runs.log
echo m > $ML_MODEL_DIR/m
`})
	spec := config.Training{
		Exec:   config.Exec{Command: []string{"sh", "train.sh"}},
		Inputs: map[string]any{"train": p.dataInput("t.csv", tableOf(100))},
		Params: map[string]any{"epochs": 300, "rate": 0.5},
		Smoke:  &config.Smoke{Rows: 10, Params: map[string]any{"epochs": 2}},
	}
	p.MustApply("training", "op1", spec)
	if got, want := p.Read("runs.log"), "2 0.5 11 id,value\n300 0.5 101 id,value\n"; got != want {
		t.Errorf("runs:\n%swant:\n%s", got, want)
	}
}

func TestAFailedSmokeRunEndsTheTraining(t *testing.T) {
	p := newProject(t, nil)
	x := sh(`echo $ML_RUN_ID >> runs.log; [ "$ML_PARAM_EPOCHS" = 2 ] || echo m > $ML_MODEL_DIR/m`)
	spec := config.Training{Exec: x, Params: map[string]any{"epochs": 300}, Smoke: &config.Smoke{Rows: 10, Params: map[string]any{"epochs": 2}}}
	for range 2 {
		_, err := p.Apply("training", "op1", spec)
		providertest.WantRunError(t, err, "training.x: smoke run failed: the command ended with exit code 0 but wrote no model")
	}
	if got := p.Read("runs.log"); got != "op1.smoke\n" {
		t.Errorf("runs: %q", got)
	}
}

func TestTwoProcessesGetTorchrunsVariables(t *testing.T) {
	p := newProject(t, nil)
	x := sh(`echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR ${MASTER_PORT:+port}" > rank.$RANK; echo m > $ML_MODEL_DIR/m.$RANK`)
	p.MustApply("training", "op1", config.Training{Exec: x, ProcessesPerNode: 2})
	for i, want := range []string{"0 0 2 127.0.0.1 port\n", "1 1 2 127.0.0.1 port\n"} {
		if got := p.Read("rank." + string(rune('0'+i))); got != want {
			t.Errorf("rank %d: %q", i, got)
		}
	}
	_, err := p.Apply("training", "op2", config.Training{Exec: x, Nodes: 2})
	providertest.WantError(t, err, "needs a cluster provider")
}

func TestACheckpointSurvivesAnAttemptAndGoesWithSuccess(t *testing.T) {
	p := newProject(t, nil)
	x := sh(`if [ -e $ML_CHECKPOINT_DIR/half ]; then cp $ML_CHECKPOINT_DIR/half $ML_MODEL_DIR/m; else echo half > $ML_CHECKPOINT_DIR/half; exit 1; fi`)
	_, err := p.Apply("training", "op1", config.Training{Exec: x})
	providertest.WantRunError(t, err, "exit code 1")
	if _, err := p.Apply("training", "op1", config.Training{Exec: x}); err == nil {
		t.Fatal("one operation ran twice")
	}
	req := p.Request("training", "other", config.Training{Exec: x})
	req.Inputs = resource.DigestOf([]byte("other inputs"))
	_, err = p.Drivers["training"].Apply(providertest.Within(t), req)
	providertest.WantRunError(t, err, "exit code 1")
	p.MustApply("training", "op2", config.Training{Exec: x})
	if ok, err := exists(p.Path(".ml/checkpoints/training.x")); ok || err != nil {
		t.Errorf("checkpoints are there after success: %v, %v", ok, err)
	}
}

func TestNothingTrainsWhoseModelHasNoPlace(t *testing.T) {
	p := newProject(t, nil)
	env := providertest.Env(p.Root)
	env.Artifacts = "oci://registry.example.com/ml"
	pr := open(t, env, 0)
	p.Drivers = pr.Drivers
	_, err := p.Apply("training", "op1", config.Training{Exec: config.Exec{Command: []string{"sh", "-c", "touch ran; echo m > $ML_MODEL_DIR/m"}}, Nodes: 1})
	providertest.WantError(t, err, "models of this machine are kept in a folder")
	if ran, err := exists(p.Path("ran")); ran || err != nil {
		t.Errorf("it trained all the same, %v", err)
	}
	if err := pr.Close(); err != nil {
		t.Error(err)
	}
}
