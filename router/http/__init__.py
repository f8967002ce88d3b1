"""The public port, and a client as long as it speaks HTTP. Knows all other folders but guard."""
