package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// chain is how many blocks one chain has: what it reads, its check, what is
// made of it, and the gate behind.
const chain = 4

// project returns the files of one project by their slash path.
func project(tool, shape string, n int) (map[string]string, error) {
	if n < 1 {
		return nil, fmt.Errorf("size %d: want at least 1", n)
	}
	if shape == "chains" && n%chain != 0 {
		return nil, fmt.Errorf("size %d: chains have %d blocks, want a multiple of it", n, chain)
	}
	switch tool + " " + shape {
	case "ml chains":
		files := sources(n / chain)
		files["main.ml.hcl"] = repeat(mlChain, n/chain)
		return files, nil
	case "ml for_each":
		files := sources(n)
		files["main.ml.hcl"] = strings.Replace(mlEach, "%", keys(n), 1)
		return files, nil
	case "tofu chains":
		return map[string]string{"main.tf": repeat(tofuChain, n/chain)}, nil
	case "tofu for_each":
		return map[string]string{"main.tf": strings.Replace(tofuEach, "%", keys(n), 1)}, nil
	default:
		return nil, fmt.Errorf("tool %q, shape %q: want ml or tofu, and chains or for_each", tool, shape)
	}
}

// In these texts % stands for the number of the chain.
const mlChain = `dataset "d%" {
  source = "data/%.csv"
}

check "c%" {
  command = ["true"]
  inputs  = { data = dataset.d% }
}

training "t%" {
  depends_on = [check.c%]
  command    = ["sh", "-c", "echo % > $ML_MODEL_DIR/m; echo '{\"a\":1}' > $ML_METRICS"]
  inputs     = { data = dataset.d% }
}

validation "v%" {
  model = training.t%.model
  threshold "a" { min = 0.5 }
}
`

const tofuChain = `resource "terraform_data" "d%" {
  input = "data/%.csv"
}

resource "terraform_data" "c%" {
  input = terraform_data.d%.output
}

resource "terraform_data" "t%" {
  input = terraform_data.c%.output
}

resource "terraform_data" "v%" {
  input = terraform_data.t%.output
}
`

// In these texts % stands for the list of keys: range() of either tool stops
// at 1,024.
const mlEach = `dataset "d" {
  for_each = toset(%)
  source   = "data/${each.key}.csv"
}
`

const tofuEach = `resource "terraform_data" "d" {
  for_each = toset(%)
  input    = "data/${each.key}.csv"
}
`

func keys(n int) string {
	parts := make([]string, n)
	for i := range n {
		parts[i] = fmt.Sprintf("%q", fmt.Sprint(i))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// sources are the files that n datasets read.
func sources(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("data/%d.csv", i)] = fmt.Sprintf("a,b\n%d,1\n%d,2\n", i, i+1)
	}
	return files
}

func repeat(text string, chains int) string {
	parts := make([]string, chains)
	for i := range chains {
		parts[i] = strings.ReplaceAll(text, "%", fmt.Sprint(i))
	}
	return strings.Join(parts, "\n")
}

func write(dir string, files map[string]string) error {
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	for _, p := range paths {
		full := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, []byte(files[p]), 0o644); err != nil {
			return err
		}
	}
	return nil
}
