package modelformat

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Format is a model format, by the name that KServe's serving runtimes use in modelFormat where they serve it.
type Format string

// The formats. Pickle and Safetensors stand for files that no serving runtime takes by itself.
const (
	Unknown     Format = ""
	SKLearn     Format = "sklearn" // joblib and pickle of scikit-learn
	XGBoost     Format = "xgboost"
	LightGBM    Format = "lightgbm"
	ONNX        Format = "onnx"
	TensorFlow  Format = "tensorflow" // SavedModel
	PyTorch     Format = "pytorch"
	MLflow      Format = "mlflow"
	HuggingFace Format = "huggingface"
	Pickle      Format = "pickle"      // of a library that is not known
	SafeTensors Format = "safetensors" // without the configuration of a model around it
)

// Limits of what is looked at.
const (
	maxFiles = 100_000
	maxDepth = 32
	headSize = 4 << 10
	maxText  = 1 << 20 // of a JSON or YAML file
)

// ErrDamaged is what a file matches that is not what its name or its first bytes promise, or is larger than such a
// file can be.
var ErrDamaged = errors.New("is damaged")

// Found is what a folder holds.
type Found struct {
	// Format is the model's format; Unknown when no file is known, or when the files are of several formats.
	Format Format
	// File is the file that shows the format, a slash path, and Why says how, in one line.
	File, Why string
	// Code lists the files that run code when the model is loaded, sorted by path.
	Code []Code
	// Files lists every file that was recognised, sorted by path.
	Files []Evidence
}

// RunsCode reports whether loading the model runs code that came with it.
func (f Found) RunsCode() bool { return len(f.Code) > 0 }

// Evidence says what one file is and how that shows.
type Evidence struct {
	File   string
	Format Format
	Why    string
}

// Code is a file that runs code when it is loaded.
type Code struct {
	File, Why string
	// Imports lists the classes and functions that a pickle would import, as "module.name", sorted. Cut says that
	// the list may have gaps: the file was too large, or its stream could not be followed to its end.
	Imports []string
	Cut     bool
}

// usual are the packages that models of the known libraries import in any case.
var usual = []string{"__builtin__", "_codecs", "collections", "copy_reg", "copyreg", "joblib", "lightgbm", "numpy", "pandas", "scipy", "sklearn", "torch", "xgboost"}

// String is one line for a reviewer, with a few of the imports: first those that models do not have in any case.
func (c Code) String() string {
	s := c.File + ": " + c.Why
	names := slices.Clone(c.Imports)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	const most = 6
	if len(names) > 0 {
		s += "; it imports " + strings.Join(names[:min(most, len(names))], ", ")
		if n := len(names) - most; n > 0 {
			s += fmt.Sprintf(" and %d more", n)
		}
	}
	if c.Cut {
		s += "; the list may have gaps"
	}
	return s
}

// rank puts what is unusual first and what every array brings last.
func rank(name string) int {
	root, _, _ := strings.Cut(name, ".")
	switch {
	case !slices.Contains(usual, root):
		return 0
	case root == "sklearn" || root == "torch" || root == "xgboost" || root == "lightgbm":
		return 1
	}
	return 2
}

// input is one file being looked at.
type input struct {
	name string // slash path
	r    io.ReaderAt
	size int64
	head []byte // the first bytes, at most headSize
}

func (in *input) ext() string { return strings.ToLower(path.Ext(in.name)) }

// section reads the file from an offset to its end.
func (in *input) section(from int64) *io.SectionReader {
	return io.NewSectionReader(in.r, from, max(in.size-from, 0))
}

func (in *input) damaged(format string, args ...any) error {
	return fmt.Errorf("%s %w: %s", in.name, ErrDamaged, fmt.Sprintf(format, args...))
}

// Detect looks at every file of a model's folder. The files must be readable at an offset, as those of os.DirFS and
// os.Root are. It errors on what cannot be read, on links and devices, and, matching ErrDamaged, on files that are not
// what they claim to be. A folder without any known file is no error: its Format is Unknown.
func Detect(fsys fs.FS) (Found, error) {
	d := &detector{fsys: fsys}
	if err := fs.WalkDir(fsys, ".", d.visit); err != nil {
		return Found{}, fmt.Errorf("look at the model: %w", err)
	}
	if err := d.folders(); err != nil {
		return Found{}, fmt.Errorf("look at the model: %w", err)
	}
	return d.result(), nil
}

type detector struct {
	fsys  fs.FS
	names []string
	seen  []Evidence
	code  []Code
	whole []Evidence // formats of folders, which take in the files below them
}

func (d *detector) visit(name string, e fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if e.IsDir() {
		if strings.Count(name, "/") >= maxDepth {
			return fmt.Errorf("%s: folders are nested deeper than %d", name, maxDepth)
		}
		return nil
	}
	if !e.Type().IsRegular() {
		return fmt.Errorf("%s is a link or a device; a model consists of files", name)
	}
	if len(d.names) == maxFiles {
		return fmt.Errorf("the folder holds more than %d files", maxFiles)
	}
	d.names = append(d.names, name)
	return d.open(name, d.file)
}

// open calls f with one file.
func (d *detector) open(name string, f func(*input) error) (err error) {
	file, err := d.fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	at, ok := file.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("%s cannot be read at an offset", name)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is a link or a device; a model consists of files", name)
	}
	in := &input{name: name, r: at, size: info.Size()}
	in.head = make([]byte, min(in.size, headSize))
	if n, err := in.r.ReadAt(in.head, 0); err != nil && (!errors.Is(err, io.EOF) || n < len(in.head)) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return f(in)
}

// sniffers look at one file each and say whether it is theirs.
var sniffers = []func(*detector, *input) (bool, error){
	(*detector).safetensors, (*detector).savedModel, (*detector).onnx,
	(*detector).xgboost, (*detector).lightgbm, (*detector).keras, (*detector).numpy,
}

func (d *detector) file(in *input) error {
	if mine, err := d.torch(in); err != nil || mine {
		return err
	}
	for _, sniff := range sniffers {
		mine, err := sniff(d, in)
		if err != nil {
			return err
		}
		if mine { // and perhaps a pickle all the same: a file can be made to be two things
			return d.pickle(in, true)
		}
	}
	return d.pickle(in, false)
}

func (d *detector) is(in *input, f Format, why string, args ...any) {
	d.seen = append(d.seen, Evidence{in.name, f, fmt.Sprintf(why, args...)})
}

// result weighs the evidence: what a whole folder is counts before what single files are.
func (d *detector) result() Found {
	f := Found{Code: d.code, Files: append(slices.Clone(d.whole), d.seen...)}
	slices.SortStableFunc(f.Files, func(a, b Evidence) int { return strings.Compare(a.File, b.File) })
	slices.SortFunc(f.Code, func(a, b Code) int { return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.Why, b.Why)) })
	if len(d.whole) > 0 {
		f.Format, f.File, f.Why = d.whole[0].Format, d.whole[0].File, d.whole[0].Why
		return f
	}
	var first *Evidence
	for i := range d.seen {
		e := &d.seen[i]
		switch {
		case e.Format == Pickle || e.Format == Unknown:
		case first == nil:
			first = e
		case e.Format != first.Format:
			f.File, f.Why = first.File, fmt.Sprintf("%s is %s and %s is %s", first.File, first.Format, e.File, e.Format)
			return f
		}
	}
	if first == nil && len(d.seen) > 0 {
		first = &d.seen[0]
	}
	if first == nil {
		f.Why = "no file is of a format that is known"
		return f
	}
	f.Format, f.File, f.Why = first.Format, first.File, first.Why
	return f
}
