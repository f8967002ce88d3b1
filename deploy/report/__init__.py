"""What people and programs are told of a cluster: pictures of it, tables, lines. Knows no other folder."""
