package config

// evaluator holds what evaluation shares between blocks.
type evaluator struct{}

// declaration is a block as written, before for_each and count.
type declaration struct{}

// instance is what tells one instance of a declaration from the others.
type instance struct{}
