"""External OpenID Connect issuers: their keys, fetched and kept, and their tokens, made principals. All they say is hostile input."""
