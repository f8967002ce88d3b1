"""Bytes and text only: HTTP heads, WebSocket frames, URLs, pages. Decides nothing and knows no other folder."""
