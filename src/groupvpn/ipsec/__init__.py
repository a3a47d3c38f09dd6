"""What must be protected and how: access lists, transform sets and security associations, as plain data (RFC 4301)."""
