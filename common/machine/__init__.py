"""The machine that a cluster's processes share: run folder, names and locks, processes and whether they live, memory
that others read, addresses, standard streams. Knows limits, errors and ids, and nothing of clusters or wires."""
