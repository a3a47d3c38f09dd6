"""The Group Domain of Interpretation (RFC 3547, RFC 6407): key server and group member, sans-IO."""
