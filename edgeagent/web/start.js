// @ts-check
/**
 * The first script of the page, so that what takes longest begins while the others load: asking the agent for its cameras,
 * and a peer connection with a line for each.
 */
import { early, Peer } from './peer.js';

const params = new URLSearchParams(location.hash.slice(1));
// The fragment may name another agent than the one that served the page.
if (!params.has('broker') && !params.has('agent')) {
  early.hello = fetch('api/hello', { signal: AbortSignal.timeout(4000) });
  const peer = (early.peer = new Peer());
  early.hello
    .then((response) => response.clone().json())
    .then((hello) => {
      if (hello.t !== 'hello' || early.peer !== peer) return undefined;
      peer.useServers(hello.ice_servers ?? []);
      const lines = /\b(camera=|drive\/)[a-z0-9]/.test(location.hash) ? 1 : Math.min(16, hello.cameras.length);
      return lines ? peer.prepare(lines) : undefined;
    })
    // Whatever is wrong here is met and said by the agent's own asking.
    .catch(() => {});
}
