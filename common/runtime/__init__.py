"""What each process of roost is made of: settings, log, clock, start, garbage collector and heap, and what is done
about defects. Knows the machine."""
