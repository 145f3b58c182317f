package config

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// moduleFolder checks that a module's folder exists inside the project.
func (l *loader) moduleFolder(dir string, c *moduleCall) *hcl.Diagnostic {
	root, err := os.OpenRoot(l.opts.Dir)
	if err == nil {
		defer root.Close() //nolint:errcheck // read only
		if isDir(root, dir) {
			return nil
		}
	}
	return errAt(c.sourceRng, "Module not found", "There is no folder %s in the project. Check the source, which is relative to the file that it stands in.", dir)
}

// gitSource is a module's git address, taken apart.
type gitSource struct {
	repo string // what is cloned
	sub  string // folder inside, "." for its root
	ref  string // tag or full commit
}

// scpForm is the short form of an ssh address.
var scpForm = regexp.MustCompile(`^[\w.-]+@[\w.-]+:`)

// parseGit reads `git::https://host/repo.git//folder?ref=v1`.
//
// The second result says what is wrong with it. local allows file:// addresses.
func parseGit(source string, local bool) (gitSource, string) {
	const form = "Write \"git::https://host/repo.git//folder?ref=v1.2.0\", with a tag or a full commit as ref."
	text := strings.TrimPrefix(source, "git::")
	if scpForm.MatchString(text) {
		return gitSource{}, "Write git@HOST:PATH as git::ssh://git@HOST/PATH. " + form
	}
	u, err := url.Parse(text)
	if err != nil {
		return gitSource{}, "The address cannot be read. " + form
	}
	out := gitSource{ref: u.Query().Get("ref"), sub: "."}
	if out.ref == "" || strings.HasPrefix(out.ref, "-") || strings.ContainsAny(out.ref, " ~^:?*[\\\x00\n") || strings.Contains(out.ref, "..") {
		return out, "A git module must be pinned. " + form
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "ssh" && !(local && u.Scheme == "file"):
		return out, "Modules come over https or ssh. " + form
	case u.User != nil && u.Scheme == "https":
		return out, "Credentials do not belong into an address; a private repository is fetched over ssh. " + form
	}
	u.RawQuery, u.Fragment = "", ""
	if i := strings.Index(u.Path, "//"); i >= 0 {
		out.sub = path.Clean(u.Path[i+2:])
		u.Path = u.Path[:i]
	}
	if out.sub == ".." || strings.HasPrefix(out.sub, "../") || strings.HasPrefix(out.sub, "/") {
		return out, "The folder leads out of the repository. " + form
	}
	out.repo = u.String()
	return out, ""
}

// key names the folder that a repository at a ref is fetched into.
func (g gitSource) key() string {
	sum := sha256.Sum256([]byte(g.repo + "\x00" + g.ref))
	return hex.EncodeToString(sum[:])[:20]
}

// resolveGit finds a fetched git module. Loading never fetches.
func (l *loader) resolveGit(c *moduleCall) (string, *hcl.Diagnostic) {
	g, problem := parseGit(c.source, l.opts.LocalGit)
	if problem != "" {
		return "", errAt(c.sourceRng, "Invalid module source", "%s", problem)
	}
	base, err := l.modulesDir()
	if err != nil {
		return "", errAt(c.sourceRng, "Module not fetched", "%s. Run ml init in the project folder.", sentence(err))
	}
	dir := path.Join(base, g.key(), g.sub)
	root, err := os.OpenRoot(l.opts.Dir)
	if err != nil {
		return "", errAt(c.sourceRng, "Module not fetched", "%s.", sentence(err))
	}
	defer root.Close() //nolint:errcheck // read only
	if !isDir(root, path.Join(base, g.key())) {
		return "", errAt(c.sourceRng, "Module not fetched", "%s is not in %s. Run ml init to fetch it.", c.source, base)
	}
	if !isDir(root, dir) {
		return "", errAt(c.sourceRng, "Module not found", "%s at %s has no folder %q.%s", g.repo, g.ref, g.sub, didYouMean(g.sub, subFolders(root, path.Join(base, g.key()))))
	}
	return dir, nil
}

func isDir(root *os.Root, dir string) bool {
	info, err := root.Stat(filepath.FromSlash(dir))
	return err == nil && info.IsDir()
}

// subFolders are the folders right in a folder, as suggestions.
func subFolders(root *os.Root, dir string) []string {
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// modulesDir is the folder of fetched modules, relative to the project.
func (l *loader) modulesDir() (string, error) { return modulesDir(l.opts) }

func modulesDir(opts Options) (string, error) {
	dir := opts.Modules
	if dir == "" {
		return defaultModules, nil
	}
	if filepath.IsAbs(dir) {
		abs, err := filepath.Abs(opts.Dir)
		if err != nil {
			return "", err
		}
		if dir, err = filepath.Rel(abs, dir); err != nil {
			return "", err
		}
	}
	return filepath.ToSlash(filepath.Clean(dir)), nil
}

// defaultModules is where git modules are fetched to.
const defaultModules = ".ml/modules"
