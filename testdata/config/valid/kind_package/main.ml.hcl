training "t" { command = ["python3", "train.py"] }

# The image that a deployment runs.
package "server" {
  model    = training.t.model
  base     = "python:3.12-slim"
  command  = ["python3", "serve.py", "--workers", "2"]
  sources  = ["serve.py", "model/**"]
  image    = "localhost:5000/team/churn"
  tags     = ["latest", "v1.2_rc.3"]
  env      = { WORKERS = 2 }
  labels   = { "org.opencontainers.image.title" = "churn" }
  user     = "65532:65532"
  platform = "linux/arm64/v8"
  trust    = true
  timeout  = "10m"
}

# The model alone, which KServe mounts.
package "model" {
  model = training.t.model
  mode  = "model"
  base  = "busybox:1.37"
  image = "oci://registry.example.com/models/churn"
}

package "code" {
  command = ["/app/server"]
  sources = ["server"]
}

package "built" {
  model      = training.t.model
  dockerfile = "Dockerfile"
}

deployment "d" {
  model = training.t.model
  image = package.server.image
}

output "uri" { value = package.model.uri }
output "of" { value = "${package.built.format} ${package.built.version} ${package.built.digest}" }
