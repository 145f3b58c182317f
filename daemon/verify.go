package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/daemon/internal/mirror"
	"github.com/continuo-ml/continuo/daemon/internal/signed"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/forge"
)

// Verify says whose signatures commits must have.
type Verify struct {
	PGP []string // files with armored public keys
	SSH string   // file as ssh-keygen's allowed_signers; "" = none
	// Signers is a file or folder of the repository with more of them. It counts
	// as the last trusted commit has it, and never as the commit being judged.
	Signers string
	// Trust is a commit that is trusted as it is, with all before it; "" = none.
	Trust string
}

type verifyBlock struct {
	PGP     []string `hcl:"pgp_key_files,optional"`
	SSH     string   `hcl:"allowed_signers_file,optional"`
	Signers string   `hcl:"signers,optional"`
	Trust   string   `hcl:"trust,optional"`
}

// maxUnverified bounds the commits that one look judges.
const maxUnverified = 1000

func (c *checker) verify(b *verifyBlock, at *hcl.Range) *Verify {
	if b == nil {
		return nil
	}
	v := &Verify{SSH: c.path(b.SSH), Trust: strings.ToLower(b.Trust)}
	for _, f := range b.PGP {
		v.PGP = append(v.PGP, c.path(f))
	}
	if b.Signers != "" {
		if v.Signers = path.Clean(b.Signers); v.Signers == "." || !filepath.IsLocal(filepath.FromSlash(v.Signers)) {
			c.fail(at, "The signers are not in the repository", "verify.signers = %q must be a file or a folder inside of it.", b.Signers)
		}
	}
	if v.Trust != "" && (len(v.Trust) != 40 || strings.Trim(v.Trust, "0123456789abcdef") != "") {
		c.fail(at, "No commit", "verify.trust = %q: write all 40 digits of a commit.", b.Trust)
	}
	if v.SSH == "" && len(v.PGP) == 0 {
		c.fail(at, "Nobody could sign", "Add pgp_key_files or allowed_signers_file to the verify block: without a signer that the daemon's own file names, no first commit could be trusted.")
		return v
	}
	if _, err := v.roots(); err != nil {
		c.fail(at, "The signers cannot be read", "%s", err)
	}
	return v
}

// roots are the signers of the daemon's own file. They are read each time, so
// that a key that is taken away counts no more.
func (v *Verify) roots() (*signed.Keys, error) {
	all := &signed.Keys{}
	for _, f := range v.PGP {
		raw, err := readCapped(f)
		if err != nil {
			return nil, err
		}
		k, err := signed.ParsePGP(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = signed.Join(all, k)
	}
	if v.SSH != "" {
		raw, err := readCapped(v.SSH)
		if err != nil {
			return nil, err
		}
		k, err := signed.ParseSSH(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.SSH, err)
		}
		all = signed.Join(all, k)
	}
	return all, nil
}

// target is the commit to work at: the head, when nobody asks for signatures or
// all are good, else the commit that was trusted last. It errors when there is none.
func (r *repo) target(ctx context.Context, head string) (string, error) {
	if r.conf.Verify == nil {
		return head, nil
	}
	trusted, err := r.trusted()
	if err == nil && trusted != head {
		err = r.judge(ctx, head, trusted)
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		r.say(func(s *status.Repository) { s.Refused = nil })
		if trusted != head {
			r.log.Info("signatures are good", "commit", head)
			err = r.keep(func(k *kept) { k.Trusted = status.Revision{Commit: head, At: r.opts.Now()} })
		}
		return head, err
	}
	if no := r.refused(ctx, head, err); trusted == "" {
		return "", no
	}
	return trusted, nil
}

// trusted is the commit that is trusted now; "" = none yet.
func (r *repo) trusted() (string, error) {
	k, root := r.recall(), r.conf.Verify.Trust
	if root == "" || root == k.Root {
		return k.Trusted.Commit, nil
	}
	// The daemon's own file names another commit than last time: that is where trust begins now.
	has, err := r.mirror.Has(root)
	if err != nil || !has {
		return k.Trusted.Commit, errors.Join(err, fmt.Errorf("verify.trust = %q is no commit that the branch has", root))
	}
	return root, r.keep(func(k *kept) { k.Root, k.Trusted = root, status.Revision{Commit: root, At: r.opts.Now()} })
}

// refused notes, once for each head and reason, that a head is not worked with.
func (r *repo) refused(ctx context.Context, head string, err error) *status.Refusal {
	var no *status.Refusal
	if !errors.As(err, &no) {
		no = &status.Refusal{Commit: head, Why: status.ErrorText(err, 5)}
	}
	no.Head, no.Since = head, r.opts.Now()
	again := false
	r.say(func(s *status.Repository) {
		if old := s.Refused; old != nil && old.Head == head && old.Why == no.Why {
			again, no.Since = true, old.Since
		}
		s.Refused = no
	})
	if !again {
		r.log.Warn("commit refused", "head", head, "commit", no.Commit, "author", no.Author, "key", no.Key, "why", no.Why)
		r.commitStatus(ctx, head, forge.Failure, "not applied: commit "+status.Short(no.Commit)+" is not signed by a signer that the daemon knows")
	}
	return no
}

// judge checks all that head has and trusted has not. The branch's own line is
// walked from old to new, each commit of it with what it merged judged by the
// signers of the one before it, as if each had been seen alone. Without a trusted
// commit the head must be signed by somebody of the daemon's own file.
func (r *repo) judge(ctx context.Context, head, trusted string) error {
	v := r.conf.Verify
	roots, err := v.roots()
	if err != nil {
		return err
	}
	steps := []mirror.Step{{Commits: []string{head}}}
	if trusted != "" {
		has, err := r.mirror.Has(trusted)
		if err != nil {
			return err
		}
		if has {
			if steps, err = r.mirror.Since(ctx, head, trusted, maxUnverified); err != nil {
				return err
			}
		}
	}
	for _, st := range steps {
		keys := roots
		if st.Base != "" {
			more, err := r.signers(st.Base)
			if err != nil {
				return err
			}
			keys = signed.Join(roots, more)
		}
		for _, c := range st.Commits {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.signature(c, keys); err != nil {
				return err
			}
		}
		// What cannot be read would let nobody sign the next one.
		last := st.Commits[len(st.Commits)-1]
		if _, err := r.signers(last); err != nil {
			return r.refusal(last, "", err.Error())
		}
	}
	return nil
}

func (r *repo) signature(commit string, keys *signed.Keys) error {
	raw, err := r.mirror.Raw(commit)
	if err != nil {
		return err
	}
	by, err := keys.Check(raw, r.opts.Now())
	var no *signed.RefusedError
	switch {
	case errors.As(err, &no):
		return r.refusal(commit, no.By, no.Why)
	case err != nil:
		return err
	}
	r.log.Debug("signature", "commit", commit, "by", by)
	return nil
}

func (r *repo) refusal(commit, key, why string) error {
	look, err := r.mirror.Look(commit)
	if err != nil {
		return err
	}
	return &status.Refusal{Commit: commit, Subject: clip(look.Subject), Author: clip(look.Author), Key: clip(key), Why: why}
}

// clip shortens what somebody else wrote.
func clip(s string) string {
	const most = 120
	if list := []rune(s); len(list) > most {
		return string(list[:most]) + "…"
	}
	return s
}

// signers are those that a commit of the repository names; none when there is no such file.
func (r *repo) signers(commit string) (*signed.Keys, error) {
	all := &signed.Keys{}
	name := r.conf.Verify.Signers
	if name == "" {
		return all, nil
	}
	files, err := r.mirror.Files(commit, name)
	if errors.Is(err, mirror.ErrNoFolder) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signers of commit %s: %w", status.Short(commit), err)
	}
	for _, file := range sorted(files) {
		var k *signed.Keys
		alone := len(files) == 1 && file == path.Base(name) // named itself, and so whatever its name
		switch {
		case strings.HasSuffix(file, ".asc") || alone && bytes.Contains(files[file], []byte("-----BEGIN PGP")):
			k, err = signed.ParsePGP(files[file])
		case file == "allowed_signers" || alone:
			k, err = signed.ParseSSH(files[file])
		default:
			continue // what explains them
		}
		if err != nil {
			return nil, fmt.Errorf("signers of commit %s: %s: %w", status.Short(commit), file, err)
		}
		all = signed.Join(all, k)
	}
	return all, nil
}

// unsigned says what keeps a pull request's head from being applied once it is
// merged, for its comment; "" when nothing does, or it cannot be told yet.
func (r *repo) unsigned(ctx context.Context, head string) string {
	if r.conf.Verify == nil || r.conf.Mode != Apply {
		return ""
	}
	trusted := r.recall().Trusted.Commit
	var no *status.Refusal
	if trusted == "" || !errors.As(r.judge(ctx, head, trusted), &no) {
		return ""
	}
	return fmt.Sprintf("The daemon applies only what known signers signed, and commit `%s` is not: it would be refused.", status.Short(no.Commit))
}
