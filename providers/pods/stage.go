package pods

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers/runs"
)

// The files of a stage's folder on this machine, besides what is mirrored.
const (
	placedFile  = "placed.json"  // which object this stage is: written before that is made
	createdFile = "created.json" // the object's UID: from here on one that is gone is lost
	cancelFile  = "cancelled"    // asks for the end; a stage that was not placed never will be
	outcomeFile = "outcome.json" // the outcome
	deletedFile = "deleted"      // nothing of the stage is left in the cluster
	resultDir   = "result"       // what the pod stored
)

// placed is how a stage is found again by any later process.
type placed struct {
	Job     kube.Ref      `json:"job"`              // the object, without UID
	Before  []kube.Ref    `json:"before,omitempty"` // what is made before it
	Search  bool          `json:"search,omitempty"` // it is a service's search, which makes candidates for as long as the object is there
	Run     string        `json:"run"`              // the result's tag
	Results string        `json:"results"`
	Nodes   int           `json:"nodes"`
	Start   time.Duration `json:"start_ns"` // how long the pods may take to begin
	At      time.Time     `json:"at"`
	// Output is the file or folder on this machine for what the command wrote to ML_OUTPUT.
	Output string `json:"output,omitempty"`
	// Address is the block's, for messages.
	Address string `json:"address"`
}

// created is the object as it was made.
type created struct {
	UID string    `json:"uid"`
	At  time.Time `json:"at"`
}

// outcome is how a stage ended.
type outcome struct {
	Status runner.Status `json:"status"`
	Model  *model        `json:"model,omitempty"`
	Found  *runs.Found   `json:"found,omitempty"` // of a search
}

// model is what a training stored.
type model struct {
	Digest string `json:"digest"` // hex
	Ref    string `json:"ref"`
	Bytes  int64  `json:"bytes"`
}

// folder is a stage's folder on this machine.
type folder string

func (f folder) at(name string) string { return filepath.Join(string(f), name) }

func (f folder) has(name string) (bool, error) {
	_, err := os.Lstat(f.at(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// note writes a small file durably, folder and all.
func (f folder) note(name string, v any) error {
	if err := durable.MkdirAll(string(f), 0o755); err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	if err := durable.WriteJSON(f.at(name), v); err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	return nil
}

// drop takes back a note.
func (f folder) drop(name string) error {
	if err := durable.RemoveIfThere(f.at(name)); err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	return nil
}

func (f folder) recall(name string, v any) (bool, error) { return durable.ReadJSON(f.at(name), v) }

// known is all that the folder says.
type known struct {
	placed    placed
	created   created
	outcome   outcome
	isPlaced  bool
	isCreated bool
	isOver    bool
	cancelled bool
}

func (f folder) known() (known, error) {
	var k known
	var errs [4]error
	k.isPlaced, errs[0] = f.recall(placedFile, &k.placed)
	k.isCreated, errs[1] = f.recall(createdFile, &k.created)
	k.isOver, errs[2] = f.recall(outcomeFile, &k.outcome)
	k.cancelled, errs[3] = f.has(cancelFile)
	return k, errors.Join(errs[:]...)
}

// job is the reference of the object that was made.
func (k known) job() kube.Ref {
	r := k.placed.Job
	r.UID = k.created.UID
	return r
}
