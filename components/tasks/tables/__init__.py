"""Tables: parts of all tasks whose inputs are columns of any kind."""
