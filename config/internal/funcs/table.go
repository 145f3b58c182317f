package funcs

import (
	"github.com/hashicorp/go-cty-funcs/cidr"
	"github.com/hashicorp/go-cty-funcs/crypto"
	"github.com/hashicorp/go-cty-funcs/encoding"
	"github.com/hashicorp/go-cty-funcs/uuid"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// Limits bound what a call may make.
type Limits struct {
	ValueBytes int // of one result
}

// Table returns all functions by name.
func Table(files Files, lim Limits) map[string]function.Function {
	t := map[string]function.Function{}
	for _, group := range []map[string]function.Function{
		numbers(), texts(lim), collections(lim), encodings(), conversions(), files.functions(lim),
	} {
		for n, f := range group {
			t[n] = fast(f)
		}
	}
	t["templatefile"] = files.templateFile(t, lim)
	return t
}

func numbers() map[string]function.Function {
	return map[string]function.Function{
		"abs":      stdlib.AbsoluteFunc,
		"ceil":     stdlib.CeilFunc,
		"floor":    stdlib.FloorFunc,
		"log":      stdlib.LogFunc,
		"max":      stdlib.MaxFunc,
		"min":      stdlib.MinFunc,
		"parseint": stdlib.ParseIntFunc,
		"pow":      stdlib.PowFunc,
		"signum":   stdlib.SignumFunc,
	}
}

func texts(lim Limits) map[string]function.Function {
	return map[string]function.Function{
		"chomp":       stdlib.ChompFunc,
		"endswith":    endsWith,
		"format":      guard(stdlib.FormatFunc, lim, formatSize),
		"formatdate":  stdlib.FormatDateFunc,
		"formatlist":  guard(stdlib.FormatListFunc, lim, formatSize),
		"indent":      guard(stdlib.IndentFunc, lim, indentSize),
		"join":        guard(stdlib.JoinFunc, lim, joinSize),
		"lower":       stdlib.LowerFunc,
		"regex":       guard(stdlib.RegexFunc, lim, patternSize),
		"regexall":    guard(stdlib.RegexAllFunc, lim, patternSize),
		"replace":     guard(replaceFunc, lim, replaceSize),
		"split":       guard(stdlib.SplitFunc, lim, splitSize),
		"startswith":  startsWith,
		"strcontains": strContains,
		"strrev":      stdlib.ReverseFunc,
		"substr":      stdlib.SubstrFunc,
		"timeadd":     stdlib.TimeAddFunc,
		"title":       stdlib.TitleFunc,
		"trim":        stdlib.TrimFunc,
		"trimprefix":  stdlib.TrimPrefixFunc,
		"trimspace":   stdlib.TrimSpaceFunc,
		"trimsuffix":  stdlib.TrimSuffixFunc,
		"upper":       stdlib.UpperFunc,
	}
}

func collections(lim Limits) map[string]function.Function {
	return map[string]function.Function{
		"alltrue":         allTrue,
		"anytrue":         anyTrue,
		"chunklist":       stdlib.ChunklistFunc,
		"coalesce":        stdlib.CoalesceFunc,
		"coalescelist":    stdlib.CoalesceListFunc,
		"compact":         stdlib.CompactFunc,
		"concat":          stdlib.ConcatFunc,
		"contains":        stdlib.ContainsFunc,
		"distinct":        stdlib.DistinctFunc,
		"element":         stdlib.ElementFunc,
		"flatten":         stdlib.FlattenFunc,
		"index":           indexFunc,
		"keys":            stdlib.KeysFunc,
		"length":          lengthFunc,
		"lookup":          lookupFunc,
		"matchkeys":       matchKeys,
		"merge":           stdlib.MergeFunc,
		"one":             oneFunc,
		"range":           stdlib.RangeFunc,
		"reverse":         stdlib.ReverseListFunc,
		"setintersection": stdlib.SetIntersectionFunc,
		"setproduct":      guard(stdlib.SetProductFunc, lim, productSize),
		"setsubtract":     stdlib.SetSubtractFunc,
		"setunion":        stdlib.SetUnionFunc,
		"slice":           stdlib.SliceFunc,
		"sort":            stdlib.SortFunc,
		"sum":             sumFunc,
		"transpose":       transposeFunc,
		"values":          stdlib.ValuesFunc,
		"zipmap":          stdlib.ZipmapFunc,
	}
}

func encodings() map[string]function.Function {
	return map[string]function.Function{
		"base64decode": encoding.Base64DecodeFunc,
		"base64encode": encoding.Base64EncodeFunc,
		"cidrhost":     cidr.HostFunc,
		"cidrnetmask":  cidr.NetmaskFunc,
		"cidrsubnet":   cidr.SubnetFunc,
		"cidrsubnets":  cidr.SubnetsFunc,
		"csvdecode":    stdlib.CSVDecodeFunc,
		"jsondecode":   jsonDecode,
		"jsonencode":   stdlib.JSONEncodeFunc,
		"md5":          crypto.Md5Func,
		"sha1":         crypto.Sha1Func,
		"sha256":       crypto.Sha256Func,
		"sha512":       crypto.Sha512Func,
		"urlencode":    encoding.URLEncodeFunc,
		"uuidv5":       uuid.V5Func,
		"yamldecode":   yamlDecode,
		"yamlencode":   ctyyaml.YAMLEncodeFunc,
	}
}

func conversions() map[string]function.Function {
	return map[string]function.Function{
		"can":          tryfunc.CanFunc,
		"nonsensitive": nonsensitive,
		"sensitive":    sensitive,
		"tobool":       to(cty.Bool),
		"tolist":       to(cty.List(cty.DynamicPseudoType)),
		"tomap":        to(cty.Map(cty.DynamicPseudoType)),
		"tonumber":     to(cty.Number),
		"toset":        to(cty.Set(cty.DynamicPseudoType)),
		"tostring":     to(cty.String),
		"try":          tryfunc.TryFunc,
	}
}
