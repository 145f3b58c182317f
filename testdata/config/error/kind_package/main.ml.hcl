training "t" { command = ["python3", "train.py"] }

package "nothing" { base = "busybox" } # ERROR: This package holds nothing

package "no-command" {
  command = [] # ERROR: The command is empty
}

package "alone" { mode = "model" } # ERROR: A model image needs a base with sh # ERROR: A model image needs a model

package "mixed" {
  model   = training.t.model
  base    = "busybox"
  mode    = "model"
  command = ["serve"]     # ERROR: A model image holds nothing but the model
  sources = ["serve.py"]  # ERROR: A model image holds nothing but the model
}

package "two-bases" {
  dockerfile = "Dockerfile"
  base       = "busybox" # ERROR: A Dockerfile names its own base
}

package "forms" {
  model    = training.t.model
  platform = "amd64"                        # ERROR: This is no platform
  image    = "registry.example.com/Churn"   # ERROR: This is no repository
  tags     = ["v1.2", "so far"]             # ERROR: This is no tag
}

package "tagged" {
  model = training.t.model
  image = "registry.example.com/churn:latest" # ERROR: This is no repository
  tags  = ["sha256-abc"]                      # ERROR: This tag is taken
}

package "no-model" { model = "models/churn" } # ERROR: Wrong type

package "values" {
  model   = training.t.model
  mode    = "serving" # ERROR: Invalid value
  timeout = "soon"    # ERROR: Invalid value
}
