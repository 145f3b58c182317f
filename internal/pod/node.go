package pod

import (
	"fmt"
	"strconv"
)

// defaultMasterPort is torchrun's.
const defaultMasterPort = 29500

// node says which of a run's nodes this is.
type node struct {
	nodes, rank int
	processes   int
	addr        string
	port        int
}

func (n node) first() bool { return n.rank == 0 }

// nodeOf reads what differs from node to node: Kubeflow Trainer sets PET_* as torchrun takes them, an indexed Job numbers its pods,
// and whoever made that Job sets MASTER_ADDR.
func nodeOf(t Task, getenv func(string) string) (node, error) {
	n := node{nodes: max(t.Nodes, 1), processes: t.Processes, port: defaultMasterPort}
	number := func(into *int, names ...string) error {
		for _, name := range names {
			text := getenv(name)
			if text == "" {
				continue
			}
			v, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("variable %s of the container: %q is no number", name, text)
			}
			*into = v
			return nil
		}
		return nil
	}
	if t.Nodes == 0 {
		if err := number(&n.nodes, "PET_NNODES"); err != nil {
			return n, err
		}
	}
	if n.nodes <= 1 {
		return n, nil // the index of a Job's pod means something else then
	}
	if err := number(&n.rank, "PET_NODE_RANK", "JOB_COMPLETION_INDEX"); err != nil {
		return n, err
	}
	if err := number(&n.port, "PET_MASTER_PORT", "MASTER_PORT"); err != nil {
		return n, err
	}
	for _, name := range []string{"PET_MASTER_ADDR", "MASTER_ADDR"} {
		if n.addr == "" {
			n.addr = getenv(name)
		}
	}
	if n.rank < 0 || n.rank >= n.nodes {
		return n, fmt.Errorf("this is node %d of %d: PET_NODE_RANK and JOB_COMPLETION_INDEX count from 0", n.rank, n.nodes)
	}
	return n, nil
}
