notifier "nowhere" { type = "webhook" } # ERROR: A webhook needs a url
notifier "mail" { type = "mail" }       # ERROR: Invalid value
notifier "none" {} # ERROR: Missing attribute
