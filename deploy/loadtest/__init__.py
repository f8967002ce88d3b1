"""The load tester behind ``roost load``: many WebSockets to any server, with everything checked that comes back.

One coordinator and worker processes, which hold the connections. Pure: ``config``, ``target``, ``plan``, ``capacity``,
``turns``, ``messages``, ``frames``, ``ledger``, ``histogram``, ``result``, ``page``. Shells: ``machine``, ``alarm``,
``connection``, ``seat``, ``worker``, ``coordinator``; ``view`` and ``plots`` draw.
"""
