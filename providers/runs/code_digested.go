package runs

import (
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/resource"
)

// DigestedCode lists what a command depends on as it is now, with the digest that ProbeCode gives for it. Without sources these are
// the files that the command suggests.
func (e *Workspace) DigestedCode(command, sources []string) ([]files.FileDigest, resource.Digest, error) {
	x, err := e.now()
	if err != nil {
		return nil, "", err
	}
	if len(sources) == 0 {
		if sources, err = defaultSources(x, command); err != nil {
			return nil, "", err
		}
	}
	hex, list, err := x.DigestSet(sources)
	if err != nil {
		return nil, "", err
	}
	return list, resource.DigestOfHex(hex), nil
}
