"""The installer's side: a site with its own certificate authority, its boards and their claims.

Installed as `edgeagent_provisioning`; the agent imports nothing of it, and of `edgeagent` it uses messages, errors and the
configuration's models.
"""
