"""The figures of ``scale``, without a cluster."""

from __future__ import annotations

from pathlib import Path

from tests.bench.scale import Step, draw, not_linear


def step(sockets: int, *, memory: float = 5_000, opening: float = 4e-4, broadcast: float = 1.2e-5) -> Step:
    """One whose cost is given for each socket: bytes, processor seconds."""
    return Step(
        sockets=sockets,
        opened_s=opening * sockets,
        opened_per_s=1 / opening,
        opened_cpu_s={"routers": opening * sockets},
        memory_bytes={"routers": int(memory * sockets) + (50 << 20), "shards": 40 << 20},
        memory_grown_bytes={"routers": int(memory * sockets), "shards": 0},
        rest_cpu={"routers": sockets * 1e-6, "shards": 0.01, "clients": sockets * 1e-6},
        broadcast_s=broadcast * sockets,
        broadcasts_s=[broadcast * sockets],
        broadcast_cpu_s={"routers": broadcast * sockets / 2, "clients": broadcast * sockets / 2},
    )


def test_cost_in_proportion_is_linear_whatever_few_sockets_cost() -> None:
    assert not_linear([step(1_000, memory=2_000), step(16_000), step(32_000), step(100_000, broadcast=1.5e-5)]) == []


def test_what_grows_faster_than_the_sockets_is_named() -> None:
    wrong = not_linear([step(16_000), step(64_000, broadcast=2e-5), step(100_000, broadcast=3e-5)])
    assert wrong == [
        "broadcast (µs of processor): 30.0 a socket at 100,000, 12.0 at 16,000: 2.50 times as much",
        "broadcast (µs of processor): 30.0 a socket at 100,000, 20.0 at 64,000: 1.50 times as much",
    ]


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    draw([step(1_000), step(16_000)], tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
