"""Users' code on the loop: the runner and its carriers, tasks, threads and callbacks that code starts, code that
forks, and what its errors are told as. Knows api, and jobs and lives by the protocols of ``work``."""
