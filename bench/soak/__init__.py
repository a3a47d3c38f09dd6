"""`make soak`: mixed traffic through three gateways for as long as one likes, while their SAs and their links change."""
