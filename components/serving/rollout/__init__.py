"""New versions beside the one in service: preflight, canary, switch."""
