"""What several test files share: toy networks and operators, rows of the slow tier."""
