"""From camera to packets: bitstream, encoder, hub."""
