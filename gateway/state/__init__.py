"""What changes from second to second, and is shared by exchanges: breakers, throttles, latencies. It only takes routes away."""
