"""Each defect planted on purpose is found, within as many seeds as it says."""

from __future__ import annotations

import pytest

from tests.simulation.planted import PLANTS
from tests.simulation.test_seeds import simulation


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_defect_is_found(name: str) -> None:
    plant = PLANTS[name]
    run = simulation("--plant", name, "--seeds", str(plant.seeds), "--theme", plant.theme, "--until-found")
    assert run.returncode == 1, f"{name} was not found:\n{run.stdout}{run.stderr}"
    assert "1 failed" in run.stdout
