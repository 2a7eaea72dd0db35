"""The board's side of belonging to a site: keys, enrolment, renewal, forgetting it all. The other end: `edgeagent_provisioning`."""
