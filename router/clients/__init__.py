"""What all clients of a router share: the tables of connections and objects, time, work in turns, what is written to
them and waits. Knows formats."""
