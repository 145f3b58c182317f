check "c" {
  count   = 0
  command = ["x"]
}
check "after" {
  depends_on = [check.c[0]]         # ERROR: No such instance
  command    = ["x"]
}
module "m" {
  source     = "./m"
  depends_on = [check.c[1]]         # ERROR: No such instance
}
training "t" {
  command = ["x"]
  retrain { on = [monitor.m["b"].drift] } # ERROR: No such instance
  lifecycle {
    replace_triggered_by = [check.c[2]]   # ERROR: No such instance
  }
}
monitor "m" {
  for_each   = toset(["a"])
  deployment = deployment.d
  latency { p99 = "1s" }
}
deployment "d" {
  model   = training.t.model
  command = ["serve"]
}
locals { always = check.c[0].passed } # ERROR: No such instance
