check "new" { command = ["true"] }
moved { from = check.old }                        # ERROR: Missing attribute
moved { # ERROR: Nothing moved
  from = check.a
  to   = check.a
}
moved { # ERROR: Nothing moved
  from = dataset.a
  to   = check.new
}
moved {
  from = check.x
  to   = check.new
}
moved { # ERROR: Moved twice
  from = check.x
  to   = check.newer
}
moved {
  from = "check.x"                                # ERROR: Invalid address
  to   = check.new
}
removed { from = chek.x }                         # ERROR: Invalid address
import { to = check.new }                         # ERROR: Missing attribute
moved { # ERROR: Nothing moved
  from = module.old
  to   = check.new
}
moved {
  from = check.p
  to   = check.goal
}
moved { # ERROR: Moved twice
  from = check.q
  to   = check.goal
}
removed { from = module }                         # ERROR: Invalid address
import {
  to = module.m # ERROR: Invalid address
  id = "x"
}
