"""The shard, and what a user's class imports."""
