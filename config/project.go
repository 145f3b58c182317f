package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Options say how to load a project.
type Options struct {
	// Dir is the project folder.
	Dir string
	// Vars are the variables given from outside, later ones win: environment,
	// files, flags. Sources are named in diagnostics ("-var", "ML_VAR_x").
	Vars []VarInput
	// Providers are the schemas of the providers that this program has, by name.
	Providers map[string]ProviderSchema
	// Elsewhere are providers that this program does not have: their blocks may
	// stand in the files, unread, but nothing can be served by them.
	Elsewhere []string
	// ToolVersion is checked against required_version.
	ToolVersion string
	// Untrusted makes every evaluation go through the limits for a stranger's
	// files whatever its static cost: see Guard.
	Untrusted bool
	// Modules is the folder that git modules are fetched into (`.ml/modules`).
	// Loading never fetches: a module that is not there is a diagnostic that
	// says to run `ml init`.
	Modules string
	// Hash makes a keyed hash of a sensitive value, for Project.Digest; nil
	// leaves sensitive values out of it.
	Hash func(string) string
	// Exe is the command that starts this program, for evaluations that need
	// limits of their own; without it they are refused.
	Exe []string
	// LocalGit allows modules from git::file:// addresses, for tests.
	LocalGit bool

	trace     func(what string) // told what is evaluated next; set in the child of Guarded
	evalTime  time.Duration     // instead of MaxEvalTime, for tests
	fetchTime time.Duration     // instead of fetchPatience, for tests
}

// VarInput is one variable's value from outside. Exactly one of Text and Value
// is set: Text is parsed by the variable's type.
type VarInput struct {
	Name, Source string
	Text         *string
	Value        cty.Value
	Range        hcl.Range
}

// ProviderSchema is what a provider hands in to check files with.
type ProviderSchema struct {
	Name   string
	Config *resource.Schema
	Nested map[string]*resource.Schema // by kind
	Kinds  []string
	Named  []string // those of Kinds for which a block has to name it
}

// Project is a loaded configuration. It is immutable and safe for concurrent use.
type Project struct {
	Dir string
	// Digest covers every file that was read for it and every variable's value
	// (sensitive ones as keyed hash by the caller: see Sensitive).
	Digest resource.Digest
	// Contents are the digests that Digest covers, by file and "var.NAME".
	Contents map[string]resource.Digest
	// Files are the configuration files read, relative to Dir, sorted.
	Files    []string
	Kinds    Kinds
	Settings Settings
	// Blocks are all instances in dependency order: each after what it needs;
	// blocks without an order between them are sorted by address.
	Blocks []*Block
	// Providers are the provider configurations of the root module, by "NAME" or "NAME.ALIAS".
	Providers map[string]ProviderConfig
	Outputs   []*Output // of the root module, sorted by name
	Moved     []Moved
	Removed   []Removed
	Imports   []Import
	// Sensitive are the values of sensitive variables, to be masked wherever text leaves the program.
	Sensitive []string

	byAddr map[resource.Address]*Block
	eval   *evaluator
	bodies map[bodyKey]*resource.Schema // of kinds for which a provider has a nested block
}

// Settings is the `ml` block.
type Settings struct {
	RequiredVersion string
	Artifacts       string
	DefaultProvider []string // "local" when absent
	Parallelism     int      // 0 = default
	Backend         *Backend // nil = a file of this machine
}

// Block is one instance of a declared block.
type Block struct {
	Addr resource.Address
	Kind *Kind
	// Provider is the configuration that serves it, "local" or "kubernetes.eu".
	Provider string
	Range    hcl.Range
	// Deps are the blocks that it needs, sorted: by reference, through locals,
	// module variables and outputs, and by depends_on.
	Deps []resource.Address
	// Explicit are those named by depends_on only.
	Explicit []resource.Address
	// Feedback are the signals that it listens to. They order nothing.
	Feedback  []resource.SignalRef
	Lifecycle Lifecycle

	decl *declaration
	inst instance
}

// Lifecycle is the `lifecycle` block.
type Lifecycle struct {
	PreventDestroy bool
	IgnoreChanges  []string // attribute paths; "all" = every one
	ReplaceOn      []resource.Address
}

// Output is a root module output.
type Output struct {
	Name, Description string
	Sensitive         bool
	Deps              []resource.Address
	expr              hcl.Expression
}

// Moved says that an address has a new name, or all that is in a module: then
// From and To have nothing but the module.
type Moved struct {
	From, To resource.Address
	Range    hcl.Range
}

// Removed says that an address, or all that is in a module, is forgotten
// (Destroy false) or destroyed.
type Removed struct {
	From    resource.Address
	Destroy bool
	Range   hcl.Range
}

// Import adopts an existing outside object.
type Import struct {
	To    resource.Address
	ID    string
	Range hcl.Range
}

// ProviderConfig is one `provider` block.
type ProviderConfig struct {
	Name, Alias string
	Value       cty.Value
	Range       hcl.Range
}

// Scope offers what a block's expressions may refer to.
type Scope interface {
	// Outputs returns the outputs object of a block, with unknowns where they
	// are not known yet; cty.NilVal when the block has none (then an
	// expression that reads it gets an unknown).
	Outputs(resource.Address) cty.Value
	// Signal returns a signal as recorded: state and epoch; the zero Signal when there is none.
	Signal(resource.SignalRef) Signal
}

// Evaluated is one block's body with values.
type Evaluated struct {
	// Value is an object of the kind's body type, plus one attribute per nested
	// provider block of the provider that serves it. Defaults are filled in;
	// unknowns stand where they belong.
	Value cty.Value
	// Sources say, per attribute path ("inputs.train", "model"), which block the
	// value came from by direct reference.
	Sources map[string]resource.Address
	// Sensitive are the paths whose value came from something sensitive.
	Sensitive map[string]bool
}

// Limits of the language; docs/reference/limits.md lists them.
const (
	MaxFileBytes    = 4 << 20
	MaxFileTokens   = 1_000_000
	MaxProjectBytes = 32 << 20
	MaxDepth        = 64
	MaxPrefixRun    = 64
	MaxChain        = 10_000 // operators and operands in a row
	MaxExponent     = 308    // of ten, of a number literal
	MaxValueBytes   = 16 << 20
	MaxInstances    = 100_000
	MaxEvalTime     = 10 * time.Second
	MaxEvalBytes    = 256 << 20
)

// Block returns the block at addr, or nil.
func (p *Project) Block(addr resource.Address) *Block { return p.byAddr[addr] }
