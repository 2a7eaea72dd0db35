"""A long life: an agent under viewers that come and go, a changing link, camera and broker faults (`make soak`)."""
