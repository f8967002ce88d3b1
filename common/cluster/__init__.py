"""Who is in the cluster, and which shard owns what: the map, how one follows from another, and the directory that
keeps it; the neighbours, and the machine that a member is handed. On no message's road. Knows the machine."""
