"""Rules that read measurements and say what is normal and what is wrong: findings."""
