"""The Verdict in the formats of terminals and CI systems: each from the Verdict alone, so that all agree."""
