"""``roost …`` on the command line. Knows all other folders."""
