"""What the wire tests share: a raw client, a scripted endpoint, the gateway and the simulator as processes."""
