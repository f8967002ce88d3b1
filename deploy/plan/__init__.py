"""What there should be, and the next step towards it: posts, staff, changes, settings, orders. Pure. Knows report."""
