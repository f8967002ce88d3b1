"""Sixty-four slots in place of 4,096, so that a run is not all tables of slots. Import this before anything of roost.

Nothing in a run depends on how many there are, but the time it takes: every map and every attachment goes through all
of them. With few of them rooms also share a slot now and then.
"""

from __future__ import annotations

import sys

from roost.common import limits

SLOT_BITS = 6

if limits.SLOT_BITS != SLOT_BITS:
    early = "roost.common.cluster.cluster_map" in sys.modules
    assert not early, "import tests.simulation.few_slots before the rest of roost"
    limits.SLOT_BITS = SLOT_BITS
    limits.SLOTS = 1 << SLOT_BITS
