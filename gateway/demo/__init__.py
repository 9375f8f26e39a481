"""`gateway demo`: the shipped policy, served for real, with every provider simulated and one real model of our own."""
