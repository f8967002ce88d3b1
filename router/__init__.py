"""The router: terminates HTTP and WebSockets, and keeps every socket while its object sleeps, moves or dies."""
