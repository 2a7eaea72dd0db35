"""A board obeys its site: settings on trial, and what else `wire.orders` knows. `obeying.Obeying` is wired up by the agent."""
