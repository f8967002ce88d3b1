"""Slots on their way from and to other shards: whether one is open, how it is let go of, and how its next owner is
proposed. Knows objects, running and outgoing."""
