package daemon

// maxHook caps the body of a webhook, and of every request.
const maxHook = 1 << 20
