"""The site's broker: Mosquitto's configuration from the registry, and a check that it keeps what it promises.

names      whom the broker knows, and names that no board may have
mosquitto  the configuration as text
places     where the system's Mosquitto finds it
settings   what was asked for: ports, hosts, certificates, Home Assistant, pairs
files      writes the text where it changed, and has Mosquitto read it
public     the certificate that browsers see
acme       gets one, by certbot
check      connects and tries what must work and what must be refused
"""
