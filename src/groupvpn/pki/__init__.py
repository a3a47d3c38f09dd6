"""Public keys and certificates: RSA key pairs now, trustpoints and enrollment later. Sans-IO."""
