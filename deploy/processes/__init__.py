"""Members as processes: started, found, signalled, buried, and the files that they leave. Knows plan."""
