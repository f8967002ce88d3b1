"""Who is dead when no supervisor lives to say so. Knows no other folder."""
