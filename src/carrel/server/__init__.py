"""The gateway: HTTP and HTTPS in front, hostlink behind, and nothing kept in between."""
