"""A telephone network on one machine: a carrier, an edge, two sites and an announcement."""
