"""Who is dead when no supervisor lives to say so, and what the map becomes without them. Knows no other folder."""
