package local

import (
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/providertest"
)

// startsLate notes that it was started, waits while its environment says so and there is no file `go`, and then serves.
const startsLate = `
import os, time
with open("count", "a") as f:
    f.write("start\n")
while os.environ.get("WAIT") and not os.path.exists("go"):
    time.sleep(0.02)
exec(open("serve.py").read())
`

func TestADeploymentKeepsTheContract(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Write("late.py", startsLate)
	spec := func(number int, env map[string]string) config.Deployment {
		d := s.spec(s.model(number, "1"))
		d.Command, d.Env = []string{"python3", "late.py"}, env
		return d
	}
	providertest.Run(t, providertest.Case{
		Driver: s.Drivers["deployment"], Kind: "deployment",
		Spec: providertest.Encoded(t, spec(1, nil)), Slow: providertest.Encoded(t, spec(2, map[string]string{"WAIT": "1"})),
		Count: func() int { return strings.Count(s.Read("count"), "\n") }, Release: func() { s.Write("go", "") },
	})
}
