package proctest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestInFindsWhatRunsInAFolderOrNamesIt(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		in   string
		args []string
		want int
	}{
		"in the folder":                     {in: dir, want: 1},
		"with the folder in an argument":    {args: []string{dir}, want: 1},
		"with a file of it in an argument":  {args: []string{filepath.Join(dir, "x")}, want: 1},
		"with a folder whose name is alike": {args: []string{dir + "x"}, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", append([]string{"-c", "read line; true"}, c.args...)...)
			cmd.Dir = c.in
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			found, err := In(dir)
			if err != nil {
				t.Error(err)
			}
			if len(found) != c.want {
				t.Errorf("found %q, want %d", found, c.want)
			}
			if err := in.Close(); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	if found, err := In(dir); err != nil || len(found) != 0 {
		t.Errorf("when all have ended: %q, %v", found, err)
	}
}
