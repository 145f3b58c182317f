manifest "redis" {
  yaml     = file("redis.yaml")
  wait_for = ["Deployment.apps/cache/redis:Available", "Certificate.cert-manager.io/web:Ready=True"]
  force    = ["Deployment.apps/cache/redis:spec.replicas"]
  prune    = false
  timeout  = "1m"
}

training "t" { command = ["python3", "train.py"] }

# As values, so that what is known later has its place.
manifest "settings" {
  objects = [{
    apiVersion = "v1"
    kind       = "ConfigMap"
    metadata   = { name = "served" }
    data       = { version = tostring(training.t.version) }
  }]
}

manifest "late" { yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: v${training.t.version}}}" }

output "made" { value = manifest.redis.objects }
