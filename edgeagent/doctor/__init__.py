"""`edgeagent doctor`: looks at everything a picture needs on its way, and says in plain sentences what is wrong and what to do."""
