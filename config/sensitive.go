package config

// SensitiveVar says whether the root module declares the variable as sensitive.
// One that is not declared counts as sensitive: nobody said that it may be shown.
func (p *Project) SensitiveVar(name string) bool {
	v := p.eval.root.cfg.vars[name]
	return v == nil || v.sensitive
}
