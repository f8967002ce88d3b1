"""What a user's class sees: handles, requests, ``ctx``, attachments; and the life that its code belongs to. Knows the
rest by the protocols of ``ports``, and of outgoing what a handle sends with."""
