package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
)

// ScanVar holds a ScanTask as JSON.
const ScanVar = "ML_SCAN"

// ScanTask is data on a volume that only a pod reaches: to find out its digest, or to store it. The volume is only read.
type ScanTask struct {
	V    int    `json:"v"` // TaskVersion
	Root string `json:"root"`
	// Path is a file, a folder or a pattern below Root, as a dataset names it.
	Path string `json:"path"`
	// Want, unless "", is the digest that the content must have, 64 hex digits: what has it is stored in Repo.
	Want     string   `json:"want,omitempty"`
	Repo     string   `json:"repo,omitempty"`
	Insecure []string `json:"insecure,omitempty"`
}

// Scanned is the last word of such a pod.
type Scanned struct {
	V     int    `json:"v"`
	Hex   string `json:"hex,omitempty"` // as files.Index.DigestSource gives it to the same files in a project
	Files int    `json:"files,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`
	IsDir bool   `json:"is_dir,omitempty"`
	// Ref is the image that holds the files in /data, by digest. No tag stands for it: who fetches it compares the content, and the volume
	// may have changed while it was sent.
	Ref string `json:"ref,omitempty"`
	// Error is why there is no digest, or with it why nothing was stored.
	Error   string `json:"error,omitempty"`
	Missing bool   `json:"missing,omitempty"` // nothing is at Path
	Moved   bool   `json:"moved,omitempty"`   // the content is not Want
}

// ParseScan reads a ScanTask from the environment.
func ParseScan(getenv func(string) string) (ScanTask, error) {
	var t ScanTask
	if getenv(ScanVar) == "" {
		return t, fmt.Errorf("read what to scan: %s is not set; this command is for pods that ml makes", ScanVar)
	}
	if err := decode([]byte(getenv(ScanVar)), &t); err != nil {
		return t, fmt.Errorf("read what to scan: %w", err)
	}
	switch {
	case t.Root == "" || t.Path == "":
		return t, errors.New("read what to scan: root and path: name the volume's folder and what to read of it")
	case (t.Want == "") != (t.Repo == ""):
		return t, errors.New("read what to scan: want and repo: content is stored by its digest, so give both or none")
	}
	return t, nil
}

// ParseScanned reads what a pod wrote.
func ParseScanned(b []byte) (Scanned, error) {
	var s Scanned
	if len(strings.TrimSpace(string(b))) == 0 {
		return s, errors.New("the pod left no last word: it was killed, or never began")
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("the pod's last word is not ml's: %w: %s", err, clip(string(b), 200))
	}
	if s.V != TaskVersion || s.Hex == "" && s.Error == "" {
		return s, fmt.Errorf("the pod's last word is of version %d; another version of ml wrote it", s.V)
	}
	return s, nil
}

// Scan digests what a task names, and stores it if that is asked for. An error that another pod may not meet is oci.Retryable.
func Scan(ctx context.Context, c *oci.Client, t ScanTask) (s Scanned, err error) {
	s.V = TaskVersion
	x, err := files.Open(t.Root, "")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	d, err := x.DigestSource(t.Path)
	if errors.Is(err, fs.ErrNotExist) {
		s.Missing = true
	}
	if err != nil {
		return s, err
	}
	s.Hex, s.Files, s.Bytes, s.IsDir = d.Hex, len(d.Files), d.Bytes, d.IsDir
	if t.Want == "" {
		return s, ctx.Err()
	}
	if d.Hex != t.Want {
		s.Moved = true
		return s, fmt.Errorf("the plan read %s, now it is %s; plan again", t.Want, d.Hex)
	}
	base, list := below(d)
	// The modes are those of data that was frozen on a machine: the same content is the same layer.
	img, err := c.Build(ctx, oci.BuildRequest{Layers: []oci.Layer{{Dir: filepath.Join(t.Root, filepath.FromSlash(base)), Files: list, Prefix: DataPrefix, Mode: 0o644}}, Repo: t.Repo})
	if err != nil {
		return s, fmt.Errorf("store the data: %w", err)
	}
	s.Ref = img.Ref
	return s, nil
}

// below is the folder of a source, and the paths of its files in that folder.
func below(d files.SourceDigest) (base string, list []string) {
	base = d.Base
	if !d.IsDir {
		base = filepath.ToSlash(filepath.Dir(filepath.FromSlash(d.Files[0].Path)))
	}
	for _, f := range d.Files {
		if base == "." {
			list = append(list, f.Path)
		} else {
			list = append(list, strings.TrimPrefix(f.Path, base+"/"))
		}
	}
	return base, list
}

// scanMain is `ml pod scan`.
func scanMain(ctx context.Context, o Options) int {
	t, err := ParseScan(o.Getenv)
	s := Scanned{V: TaskVersion}
	if err == nil {
		if o.Client == nil {
			o.Client = oci.New(oci.Options{Insecure: t.Insecure})
		}
		s, err = Scan(ctx, o.Client, t)
	}
	code := ExitDone
	if err != nil {
		fmt.Fprintf(o.Stderr, "ml: %v\n", err)
		s.Error, code = clip(strings.ReplaceAll(err.Error(), "\n", "; "), maxSentence), ExitFailed
		if ctx.Err() != nil || oci.Retryable(err) {
			code = ExitLost
		}
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(or(o.Getenv(MessageVar), DefaultMessagePath), b, 0o644)
	}
	if err != nil {
		fmt.Fprintf(o.Stderr, "ml: write the last word: %v\n", err)
		return ExitLost
	}
	return code
}
