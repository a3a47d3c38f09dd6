"""IKEv1 phase 1 (RFC 2409) and what lives beside it: notifies, deletes, NAT traversal. Sans-IO."""
