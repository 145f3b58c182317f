check "new" { command = ["true"] }
moved { # ERROR: Still declared
  from = check.new
  to   = check.newer
}
removed { from = check.new }                      # ERROR: Still declared
import { # ERROR: Unknown block
  to = check.nope
  id = "x"
}
import {
  to = check.new
  id = "x"
}
import { # ERROR: Imported twice
  to = check.new
  id = "y"
}
module "still" { source = "./m" }
moved { # ERROR: Still declared
  from = module.still
  to   = module.other
}
removed { from = module.still }                   # ERROR: Still declared
