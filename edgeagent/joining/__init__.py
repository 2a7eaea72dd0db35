"""How a board without a site comes to one by itself: a QR before its camera, Wi-Fi, and a word on the local network."""
