manifest "none" {} # ERROR: A manifest needs objects

manifest "empty" { yaml = "---\n# nothing\n" } # ERROR: A manifest needs objects

manifest "both" {
  yaml    = "a: 1"
  objects = [] # ERROR: A manifest has yaml or objects, not both
}

manifest "syntax" { yaml = "a: 1\n---\nb: [1\n" } # ERROR: This YAML cannot be read

manifest "twice-a-key" { yaml = "a: 1\na: 2\n" } # ERROR: This YAML cannot be read

manifest "no-kind" { yaml = "apiVersion: v1\nmetadata: {name: x}\n" } # ERROR: This is no Kubernetes object

manifest "list" { yaml = "[1, 2]" } # ERROR: This is no Kubernetes object

manifest "word" { objects = "redis" } # ERROR: This is no Kubernetes object

manifest "no-name" { objects = { apiVersion = "v1", kind = "Pod" } } # ERROR: This is no Kubernetes object

manifest "truth" { yaml = "{apiVersion: v1, kind: Pod, metadata: {name: n}}" } # ERROR: This is no Kubernetes object

manifest "generated" { yaml = "{apiVersion: v1, kind: Pod, metadata: {generateName: x-}}" } # ERROR: This is no Kubernetes object

manifest "twice" {
  objects = [ # ERROR: Two objects of one name
    { apiVersion = "apps/v1", kind = "Deployment", metadata = { name = "x" } },
    { apiVersion = "apps/v1beta1", kind = "Deployment", metadata = { name = "x" } },
  ]
}

manifest "targets" {
  yaml     = "{apiVersion: v1, kind: Pod, metadata: {name: x}}"
  wait_for = ["Ready"] # ERROR: This names nothing of an object
}

manifest "fields" {
  yaml  = "{apiVersion: v1, kind: Pod, metadata: {name: x}}"
  force = ["spec.replicas"] # ERROR: This names nothing of an object
}
