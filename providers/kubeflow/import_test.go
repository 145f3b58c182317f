package kubeflow

import (
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/config"
)

func TestATrainJobIsTakenOverOnlyByTheBlockThatSaysWhatItRan(t *testing.T) {
	const job = `
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata: {name: old}
spec: {trainer: {image: "r/torch:1", command: [python3], args: [train.py, --fast], numNodes: 2, numProcPerNode: 3}}
`
	same := func() config.Training {
		return config.Training{Exec: config.Exec{Command: []string{"python3", "train.py", "--fast"}}, Image: "r/torch:1", Nodes: 2, ProcessesPerNode: 3}
	}
	if err := sameAs(same(), object(t, job)); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(*config.Training){
		"image is r/torch:2, and the TrainJob had r/torch:1":                                      func(s *config.Training) { s.Image = "r/torch:2" },
		`command is ["python3" "train.py"], and the TrainJob had ["python3" "train.py" "--fast"]`: func(s *config.Training) { s.Command = s.Command[:2] },
		"nodes is 1, and the TrainJob had 2":                                                      func(s *config.Training) { s.Nodes = 0 },
		"processes_per_node is 1, and the TrainJob had 3":                                         func(s *config.Training) { s.ProcessesPerNode = 1 },
	} {
		s := same()
		change(&s)
		if err := sameAs(s, object(t, job)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want it to say %q", err, says)
		}
	}
	// What a TrainJob leaves to its runtime is no difference.
	if err := sameAs(config.Training{Exec: config.Exec{Command: []string{"true"}}, Image: "any"}, object(t, "{apiVersion: trainer.kubeflow.org/v1alpha1, kind: TrainJob, metadata: {name: old}, spec: {}}")); err != nil {
		t.Error(err)
	}
}
