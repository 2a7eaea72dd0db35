"""edgeagent: watch a camera and drive a robot from a browser, peer to peer."""

__version__ = "0.1.0"
