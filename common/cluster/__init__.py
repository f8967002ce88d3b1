"""Who is in the cluster, and which shard owns what: the map, how one follows from another, and the directory that
keeps it. On no message's road. Knows the machine."""
